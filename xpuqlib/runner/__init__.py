"""One notebook, many runs: parameters, execution, sweeps, results, the report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "parameters": [
            "LessonParameters",
            "check_parameters",
            "describe_parameters",
            "notebook_parameters",
            "split_assignments",
        ],
        "grid": ["Grid", "read_grid"],
        "kernel": [
            "FAILED",
            "INTERRUPTED",
            "METADATA",
            "PASSED",
            "TIMED_OUT",
            "Executed",
            "Task",
            "end_kernels",
            "finish",
            "run_task",
        ],
        "language": [
            "behind",
            "describe_translation",
            "find_language",
            "passages",
            "read_catalogue",
            "renew_catalogues",
            "translate",
            "translate_notebook",
        ],
        "execution": ["Job", "execute", "find_notebooks", "plan"],
        "results": [
            "Result",
            "check_folder",
            "compare",
            "read_results",
            "results_frame",
            "store",
        ],
        "naming": ["all_versions", "identity", "run_names"],
        "sweeps": ["sweep"],
        "front": ["clear_front", "describe_front", "measured"],
        "figure": ["draw_runs"],
        "pages": ["lessons_page", "runs_page", "varying"],
        "report": ["write_report"],
        "drafts": [
            "DraftedModel",
            "Recipe",
            "check_draft",
            "compare_programs",
            "draft_model",
            "read_recipe",
        ],
        "shipping": ["SHIPPED", "Shipment", "ship_model", "ship_run"],
        "committed": ["PaletteFigures"],
    },
)
