"""How it looks: figures and explorers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "figures": [
            "BLUE",
            "GREEN",
            "GREY",
            "ORANGE",
            "PINK",
            "SKY",
            "YELLOW",
            "draw_bars",
            "draw_calibration_sets",
            "draw_code_usage",
            "draw_latency",
            "draw_layer_sqnr",
            "draw_observer",
            "draw_scales",
            "new_figure",
            "plain_log_ticks",
        ],
        "graphs": ["draw_dtypes", "draw_graph", "draw_stages"],
        "explorers": ["Explorer", "browse_layers", "compare_recipes", "explore_quantization"],
    },
)
