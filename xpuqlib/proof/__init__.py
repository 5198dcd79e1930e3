"""Did int8 happen, how close is it, how fast: evidence, comparisons, the run record."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "graph": [
            "Layer",
            "count_operators",
            "how_to_quantize",
            "match_calls",
            "quantizable_layers",
        ],
        "assumed_gpu": ["ASSUMED_GPUS", "AssumedGPU", "assumed_gpu"],
        "draft": ["Draft", "DraftError", "Written", "draft_for_xpu", "write_for"],
        "package_draft": ["PackageDraft", "c_functions", "draft_package_for_xpu"],
        "stand_ins": ["exact_int8"],
        "fake_constants": ["FakeConstants", "move_code", "on_cpu", "prepacked"],
        "replaced": [
            "constants_without_values",
            "gpu_that_is_not_there",
            "nothing_compiled",
            "nothing_packaged",
            "replacements",
        ],
        "int8_calls": [
            "DraftedCall",
            "describe_calls",
            "int8_arguments",
            "is_int8_call",
            "rename_arguments",
            "with_values",
        ],
        "program": ["executed_lines", "executed_lines_of_package", "write_program"],
        "simulation": [
            "Simulation",
            "compare_codes",
            "reference_codes",
            "rehearsed_codes",
            "simulate",
        ],
        "evidence": ["Evidence", "EvidenceError", "LayerEvidence", "collect_evidence"],
        "closeness": [
            "agreement",
            "class_scores",
            "code_usage",
            "flat_output",
            "layer_sqnr",
            "node_outputs",
            "predict",
            "predict_batches",
            "sqnr",
            "top1",
            "varied",
        ],
        "packages": ["PackageContent", "read_package", "verify_package"],
        "cost": ["Latency", "compare_latency", "peak_memory", "size_in_bytes"],
        "claims": ["Claim", "Claims"],
        "record": ["MIME_TYPE", "NO_NOTEBOOK", "RunRecord", "compiled_files", "read_record"],
    },
)
