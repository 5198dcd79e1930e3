"""The run record: what a lesson leaves in its executed notebook, and how to read it back."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from xpuqlib.errors import explained
from xpuqlib.machine.environment import current_track, versions
from xpuqlib.proof.claims import Claim

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["MIME_TYPE", "NO_NOTEBOOK", "RunRecord", "compiled_files", "read_record"]

MIME_TYPE = "application/vnd.xpuqlib.record+json"
# What is no notebook lacks the cells; nbformat's and pydantic's own errors are ValueErrors.
NO_NOTEBOOK = (OSError, ValueError, AttributeError)


def compiled_files() -> int:
    """Count the C++ files that Inductor compiled in this process, instead of reading its cache."""
    counting = sys.modules.get("xpuqlib.recipe.compilation")  # comes with lowering
    return len(counting.compiler_commands) if counting else 0


class RunRecord(BaseModel):
    """One run of one lesson. The last cell of a lesson displays it.

    Attributes
    ----------
    lesson : str
        The notebook's name without its ending.
    parameters : dict
        Values of the parameters cell.
    device, device_name, mode : str
        ``xpu``, ``cuda`` or ``cpu``; the hardware; ``executed``, ``rehearsed`` or ``reference``.
    metrics : dict of str to float or None
        Accuracy 0…1, SQNR in dB, latency in seconds, sizes in bytes.
    evidence : dict
        From ``Evidence.to_dict()``; empty for a lesson that lowers nothing.
    claims : list of Claim
        What the lesson says of its results, with the measured value and whether it holds.
    seconds : float
        From the lesson's set-up cell to its record.
    compiled_files : int
        C++ files that this process compiled; 0 where all came from Inductor's cache. What Triton
        compiles, on a GPU, is not counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2, 3] = 3  # records of version 2 have no claims
    lesson: str
    parameters: dict[str, JsonValue]
    device: str
    device_name: str
    mode: str
    metrics: dict[str, float | None] = Field(default_factory=dict)
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    claims: list[Claim] = Field(default_factory=list)
    seconds: float
    seed: int | None = None
    compiled_files: int = Field(default_factory=compiled_files, ge=0)
    track: str = Field(default_factory=lambda: current_track().name)
    versions: dict[str, str | None] = Field(default_factory=versions)

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, float | None]) -> dict[str, float | None]:
        # JSON has no infinity and no NaN: undefined is None.
        return {k: v if v is not None and math.isfinite(v) else None for k, v in metrics.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json")

    def int8_kernels(self, stage: str = "generated") -> str:
        """Layers that reached a stage, such as ``20 of 20 conv``; "–" without evidence of it.

        ``generated``: they run in int8 kernels. ``drafted``: in the program for an Intel GPU.
        """
        counts = self.evidence.get("counts", {}).items()
        kinds = {kind: n for kind, n in counts if n["in the model"] and stage in n}
        found = [f"{n[stage]} of {n['in the model']} {kind}" for kind, n in kinds.items()]
        return ", ".join(found) or "–"

    def int8_count(self, stage: str = "generated") -> int:
        """Count the layers that reached a stage; 0 without evidence of it."""
        return sum(n.get(stage, 0) for n in self.evidence.get("counts", {}).values())

    def claims_held(self) -> str:
        """How many claims hold, such as ``7 of 7``; "–" for a record without any."""
        held = sum(claim.holds for claim in self.claims)
        return f"{held} of {len(self.claims)}" if self.claims else "–"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        rows = {
            "lesson": self.lesson,
            "ran": f"{self.mode} on {self.device} ({self.device_name})",
            "parameters": ", ".join(f"{k}={v}" for k, v in self.parameters.items()),
            **{k: "undefined" if v is None else f"{v:.4g}" for k, v in self.metrics.items()},
            "claims that hold": self.claims_held(),
            "versions": ", ".join(f"{k} {v}" for k, v in self.versions.items() if v),
            "C++ files compiled (others: cached)": self.compiled_files,
            "seconds": f"{self.seconds:.0f}",
        }
        table = pandas.Series(rows, name="run record").to_frame()
        texts = {"text/html": table.to_html(), "text/plain": table.to_string()}
        return {MIME_TYPE: self.to_dict(), **texts}


def read_record(notebook: Path | str | NotebookNode) -> RunRecord | None:
    """Read the run record of an executed notebook; None where it has none.

    Raises
    ------
    RunError
        If the notebook or its record cannot be read.
    """
    import nbformat  # takes two seconds, which a lesson that only writes a record need not wait for

    name = "a notebook" if isinstance(notebook, nbformat.NotebookNode) else notebook
    cause = f"The run record of {name} cannot be read"
    with explained(NO_NOTEBOOK, cause, "Run the notebook again."):
        if not isinstance(notebook, nbformat.NotebookNode):
            # The reader alone, without validation: a folder may hold a thousand notebooks.
            notebook = nbformat.reader.reads(Path(notebook).read_text(encoding="utf-8"))
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if MIME_TYPE in output.get("data", {}):
                    return RunRecord.model_validate(output["data"][MIME_TYPE])
    return None
