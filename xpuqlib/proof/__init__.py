"""Did int8 happen, how close is it, how fast: evidence, comparisons, the run record."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "graph": ["Layer", "count_operators", "layer_kind", "module_path", "quantizable_layers"],
        "evidence": ["Evidence", "EvidenceError", "LayerEvidence", "collect_evidence"],
        "closeness": [
            "agreement",
            "code_usage",
            "flat_output",
            "layer_sqnr",
            "predict",
            "sqnr",
            "top1",
        ],
        "cost": ["Latency", "compare_latency", "peak_memory", "size_in_bytes"],
        "claims": ["Claim", "Claims"],
        "record": ["MIME_TYPE", "NO_NOTEBOOK", "RunRecord", "compiled_files", "read_record"],
    },
)
