"""How int8 is made: capture, calibrate, convert, rewrite exactly, lower; eager modes, too."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pt2e": [
            "CaptureError",
            "HistogramObserver",
            "MinMaxObserver",
            "ObserverBase",
            "PerChannelMinMaxObserver",
            "QuantizationConfig",
            "QuantizationSpec",
            "XPUInductorQuantizer",
            "annotate_nodes_not_quantize",
            "capture",
            "convert_pt2e",
            "get_default_xpu_inductor_quantization_config",
            "prepare_pt2e",
        ],
        "layers": [
            "layer_kind",
            "layer_name",
            "layer_names",
            "module_path",
            "module_paths",
            "refuse_unknown",
        ],
        "switches": ["KINDS", "Switch", "Switchable"],
        "exceptions": ["SelectiveQuantizer", "activation_nodes", "keep_in_float"],
        "sensitivity": [
            "ALL_BUT",
            "ONLY",
            "SETTINGS",
            "Scores",
            "Sensitivity",
            "measure_sensitivity",
        ],
        "rounding": ["ROUNDING_ALONE", "quantizer_errors"],
        "configuration": ["OBSERVERS", "make_configuration", "make_quantizer"],
        "recipe": ["Recipe"],
        "accuracy": ["KeptAccuracy", "accuracy_curve", "keep_accuracy"],
        "calibration": ["Calibration", "calibrate", "observers"],
        "passes": ["keep_max_pools_floating", "quantize_above_max_pool", "signed_to_unsigned"],
        "lowering": ["Lowered", "LoweringError", "lower", "rewrite_for"],
        "compilation": [
            "Compilation",
            "Int8Call",
            "Operator",
            "compiler_commands",
            "observe_compilation",
            "read_compilation",
        ],
        "script": ["write_script"],
        "eager": ["Place", "count_nodes", "count_quantized", "eager_place", "quantizable_model"],
    },
)
