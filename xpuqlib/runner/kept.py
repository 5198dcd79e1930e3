"""Runs without their notebooks: a file of records, small enough to be committed and compared."""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from xpuqlib.errors import RunError, explained
from xpuqlib.machine.files import write_whole
from xpuqlib.proof.record import RunRecord
from xpuqlib.runner.results import Result, read_results

__all__ = ["keep_runs", "read_runs"]


def keep_runs(results: list[Result], path: Path) -> Path:
    """Write a JSON line for each run: parameters, outcome, record; of its layers the gaps only.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    lines = []
    for result in results:
        record = result.record.to_dict() if result.record else None
        if record and record["evidence"]:
            stages = ("quantized", "matched", "generated", "drafted")
            layers = record["evidence"].get("layers", [])
            gaps = [
                layer for layer in layers if not all(layer.get(stage, True) for stage in stages)
            ]
            record["evidence"]["layers"] = gaps
        kept = asdict(result) | {"path": result.path.name, "record": record}
        lines.append(json.dumps(kept, ensure_ascii=False, sort_keys=True))
    write_whole(path, "".join(f"{line}\n" for line in lines))
    return path


def read_runs(path: Path) -> list[Result]:
    """Read the runs of a folder of executed notebooks, or of a file that `keep_runs` wrote.

    Raises
    ------
    RunError
        If there is none, or the file cannot be read.
    """
    if path.suffix != ".jsonl":
        return read_results(path)
    kinds = (OSError, UnicodeError, ValueError, TypeError, KeyError, ValidationError)
    with explained(
        kinds, f"{path} cannot be read", "Name a folder of runs, or a kept .jsonl file."
    ):
        kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = []
        for fields in kept:
            record = fields["record"] and RunRecord.model_validate(fields["record"])
            found.append(Result(**fields | {"path": Path(fields["path"]), "record": record}))
    if not found:
        raise RunError(f"{path} holds no run.", "Make it again.")
    return found
