"""Execution of notebooks: one by one, over a grid of parameters, and the report on both."""

from typing import Any

__all__ = ["sweep"]


def __getattr__(name: str) -> Any:
    # Only when asked for: `xpuq doctor` must answer where papermill cannot be imported.
    if name in __all__:
        from xpuqlib.runner.sweeps import sweep

        return sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
