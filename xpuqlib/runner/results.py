"""A folder of executed notebooks: each written whole or not at all, read back, made a table."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pandas

from xpuqlib.errors import RunError, explained
from xpuqlib.machine.files import write_whole
from xpuqlib.proof.record import NO_NOTEBOOK, RunRecord, read_record
from xpuqlib.runner.kernel import FAILED, METADATA, PASSED, Executed

__all__ = [
    "Result",
    "check_folder",
    "compare",
    "read_results",
    "results_frame",
    "store",
]

# Outcomes from worst to best; all others ended early, and are worse.
RANKS = {"no record": 0, "drafted": 1, "reference": 2, "rehearsed": 3, "executed": 4}


@dataclass(frozen=True)
class Result:
    """One executed notebook in a folder.

    Attributes
    ----------
    path : pathlib.Path
        The executed notebook; its page stands beside it.
    lesson, parameters, result, error, seconds
        What the runner noted; `result` is ``passed``, ``failed``, ``timed out`` or
        ``interrupted``.
    record : RunRecord or None
        The notebook's own record; None where it did not get that far.
    title : str
        The notebook's first markdown heading; its name where it has none.
    """

    path: Path
    lesson: str
    parameters: dict[str, Any]
    result: str
    error: str
    seconds: float
    record: RunRecord | None
    title: str = ""

    @property
    def outcome(self) -> str:
        """What happened: ``executed``, ``rehearsed`` or ``reference`` for a run that passed."""
        if self.result != PASSED:
            return self.result
        return self.record.mode if self.record else "no record"

    @property
    def page(self) -> Path | None:
        """The notebook as HTML, where it could be made."""
        page = self.path.with_suffix(".html")
        return page if page.exists() else None


def check_folder(folder: Path) -> None:
    """Make a folder for results, and clear what a killed writer left half-written in it.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    with explained(OSError, f"{folder} cannot be written", "Choose another --out."):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.partial"):
            if time.time() - leftover.stat().st_mtime > 60:  # no living writer takes that long
                leftover.unlink(missing_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def store(executed: Executed, folder: Path) -> Result:
    """Write what a run left: its files, in a folder of its name, its page, the executed notebook.

    The notebook comes last, since it counts as the result. Files of a former run are removed: its
    recipe must not stand beside a new run that failed.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    path = folder / f"{executed.task.name}.ipynb"
    _remove_former_files(path)
    for name, content in executed.files.items():
        path.with_suffix("").mkdir(exist_ok=True)
        write_whole(path.with_suffix("") / name, content)
    if executed.page:
        write_whole(path.with_suffix(".html"), executed.page)
    write_whole(path, executed.notebook)
    return read_result(path)


def _remove_former_files(path: Path) -> None:
    files = path.with_suffix("")
    if not (files.is_dir() and path.exists() and read_result(path)):
        return  # a folder that no run of ours left may be a person's own
    with explained(OSError, f"{files} cannot be removed", "Choose another --out."):
        shutil.rmtree(files)


def read_result(path: Path) -> Result | None:
    """Read one executed notebook; None for a notebook that the runner did not execute.

    Raises
    ------
    RunError
        If it is no notebook.
    """
    with explained(NO_NOTEBOOK, f"{path} is not a notebook", "Move it elsewhere."):
        notebook = nbformat.reader.reads(path.read_text(encoding="utf-8"))
        noted = notebook.metadata.get(METADATA)
    if noted is None:
        return None
    with explained((TypeError, KeyError), f"{path} was not written by this runner", "Move it."):
        noted = {"title": _title(notebook) or noted["lesson"]} | noted
        try:
            return Result(path, **noted, record=read_record(notebook))
        except RunError as error:  # from another version, or damaged: it says so in its row
            noted |= {"result": FAILED, "error": f"{noted['error']} {error.cause}".strip()}
            return Result(path, **noted, record=None)


def _title(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        found = cell.cell_type == "markdown" and re.search(
            r"^ {0,3}#{1,6} +(.+)", cell.source, re.M
        )
        if found:
            return found[1].strip().rstrip("#").strip().replace("`", "")
    return ""


def read_results(folder: Path) -> list[Result]:
    """Read every executed notebook of a folder, by lesson and parameters.

    Raises
    ------
    RunError
        If there is none.
    """
    paths = sorted(folder.glob("*.ipynb"))
    found = [result for path in paths if (result := read_result(path))]
    if not found:
        fix = "Name a folder that `xpuq run` or `sweep` made."
        raise RunError(f"{folder} holds no executed notebook.", fix)
    return sorted(found, key=_order)


def _order(result: Result) -> tuple[str, list[tuple[str, Any]], str]:
    values = [(type(value).__name__, value) for _, value in sorted(result.parameters.items())]
    return result.lesson, [v for v in values if v[0] in ("int", "float", "str")], result.path.name


def results_frame(results: list[Result]) -> pandas.DataFrame:
    """One row a run, named by its file: outcome, device, evidence, parameters, metrics, versions.

    Columns that a run's record does not have are missing values there.
    """
    rows = {}
    for result in results:
        record = result.record
        parameters = (record.parameters if record else {}) | result.parameters
        row = {"lesson": result.lesson, "outcome": result.outcome, "error": result.error}
        row |= {f"parameters.{name}": _plain(value) for name, value in parameters.items()}
        if record:
            row |= {"device": record.device, "device_name": record.device_name}
            row |= {"int8_kernels": record.int8_kernels(), "int8_count": record.int8_count()}
            row |= {"drafted": record.int8_kernels("drafted")}
            row |= {"claims": record.claims_held()}
            row |= {f"metrics.{name}": value for name, value in record.metrics.items()}
            row |= {"compiled_files": record.compiled_files, "track": record.track}
            row |= {f"versions.{name}": value for name, value in record.versions.items()}
        rows[result.path.stem] = row | {"seconds": result.seconds}
    frame = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("run")
    whole = [name for name in frame if name.startswith("parameters.")]
    return frame.astype({name: frame[name].convert_dtypes().dtype for name in whole})


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def compare(
    before: list[Result], after: list[Result], slower: float = 0.1, top1: float = 0.01
) -> pandas.DataFrame:
    """Find what got worse from one folder to another; runs meet by lesson and parameters.

    Parameters
    ----------
    before, after : list of Result
    slower : float
        Fraction by which a latency may grow.
    top1 : float
        By how much an accuracy (0…1) may fall. An SQNR may fall by 1 dB.

    Returns
    -------
    pandas.DataFrame
        One row a loss: ``lesson``, ``parameters``, ``what``, ``before``, ``after``.

    Raises
    ------
    RunError
        If no run is in both.
    """
    olds, news = _by_key(before), _by_key(after)
    if not olds.keys() & news.keys():
        raise RunError("No run is in both folders.", "Compare two sweeps of one grid.")
    losses = []
    for key, old in olds.items():
        losses += [(*key, *loss) for loss in _losses(old, news.get(key), slower, top1)]
    return pandas.DataFrame(losses, columns=["lesson", "parameters", "what", "before", "after"])


def _by_key(results: list[Result]) -> dict[tuple[str, str], Result]:
    found = {}
    for result in results:
        values = ", ".join(f"{k}={v}" for k, v in sorted(result.parameters.items()))
        found[result.lesson, values] = result
    if len(found) < len(results):
        wrong = f"{results[0].path.parent} holds a run twice, of two versions or notebooks."
        raise RunError(wrong, "Give each its own --out.")
    return found


def _losses(old: Result, new: Result | None, slower: float, top1: float) -> Iterator[tuple]:
    if new is None:
        yield "run", old.outcome, "missing"
        return
    if RANKS.get(new.outcome, -1) < RANKS.get(old.outcome, -1):
        yield "outcome", old.outcome, f"{new.outcome} {new.error}".strip()
    if not (old.record and new.record):
        return
    if new.record.int8_count() < old.record.int8_count():
        yield "int8 kernels", old.record.int8_kernels(), new.record.int8_kernels()
    if new.record.int8_count("drafted") < old.record.int8_count("drafted"):
        drafted = (record.int8_kernels("drafted") for record in (old.record, new.record))
        yield "int8 calls drafted for an Intel GPU", *drafted
    held_now = {claim.text: claim for claim in new.record.claims}
    for claim in old.record.claims:
        now = held_now.get(claim.text, claim)  # a lesson may say something else by now
        if claim.holds and not now.holds:
            yield f"claim: {claim.text}", claim.value, f"does not hold: {now.value}"
    for name, value in old.record.metrics.items():
        other = new.record.metrics.get(name)
        if value is not None and other is None:
            yield name, value, "undefined"
        elif value is not None:
            timed = name.startswith("latency") and not name.endswith("_iqr_s")
            slow = timed and other > value * (1 + slower)
            wrong = name.startswith("top1") and other < value - top1
            if slow or wrong or (name.startswith("sqnr") and other < value - 1):
                yield name, value, other
