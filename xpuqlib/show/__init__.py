"""How it looks: figures and explorers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "described": ["DescribedFigure"],
        "style": [
            "BLACK",
            "DTYPES",
            "GREY",
            "PINK",
            "SERIES",
            "SKY",
            "VERMILLION",
            "YELLOW",
            "new_figure",
            "plain_log_ticks",
        ],
        "figures": [
            "draw_code_usage",
            "draw_layer_sqnr",
            "draw_observer",
            "draw_scales",
            "name_layers",
        ],
        "bars": ["draw_bars", "draw_calibration_sets", "draw_latency"],
        "way": ["STEPS", "draw_way"],
        "graphs": ["draw_dtypes", "draw_graph", "draw_stages"],
        "states": ["STATES_MIME_TYPE", "possible_values", "smaller_figure"],
        "explorers": ["Explorer", "browse_layers", "compare_recipes", "explore_quantization"],
        "smoothing": ["draw_channel_ranges", "explore_smoothing"],
        "rescue": ["draw_rescue", "draw_sensitivity", "explore_rescue"],
    },
)
