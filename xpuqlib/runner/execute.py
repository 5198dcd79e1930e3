"""Execute notebooks through papermill, each in its own kernel, and keep whatever happened."""

from __future__ import annotations

import html
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbconvert
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError

from xpuqlib.environment import IPEX, ipex_mismatch
from xpuqlib.errors import RunError, TrackError
from xpuqlib.record import RunRecord, read_record
from xpuqlib.runner.parameters import check_parameters

__all__ = ["Job", "RunResult", "execute", "find_notebooks", "plan", "write_index"]


@dataclass(frozen=True)
class Job:
    """A notebook and its checked parameters."""

    notebook: Path
    parameters: dict[str, Any]


@dataclass(frozen=True)
class RunResult:
    """How one notebook ended.

    `result` is ``passed``, ``failed`` or ``interrupted``; `record` is the notebook's own, None
    where it did not get that far.
    """

    notebook: str
    record: RunRecord | None
    seconds: float
    result: str
    error: str
    executed: Path
    page: Path

    def cells(self) -> list[str]:
        """Notebook, device, mode, int8 kernels and seconds, as a table shows them."""
        record = self.record
        known = [record.device, record.mode, record.int8_kernels()] if record else ["–"] * 3
        return [self.notebook, *known, f"{self.seconds:.0f}"]


def find_notebooks(names: list[str], folder: Path = Path("notebooks")) -> list[Path]:
    """Notebooks by path, or by the start of their name in `folder`; all of them for no names.

    Raises
    ------
    RunError
        If a name matches nothing, or more than one notebook.
    """
    everything = sorted(folder.glob("*.ipynb"))
    if not names and not everything:
        raise RunError(f"There are no notebooks in {folder}/.", "Run from the project's folder.")
    found = []
    for name in names:
        matches = (
            [Path(name)]
            if Path(name).is_file()
            else [path for path in everything if path.name.startswith(name)]
        )
        if len(matches) != 1:
            raise RunError(
                f"{name!r} matches {len(matches)} notebooks.",
                f"Name one of: {', '.join(path.stem for path in everything) or 'none here'}.",
            )
        found += matches
    stems = [path.stem for path in found]
    if len(set(stems)) < len(stems):
        raise RunError("A notebook is named twice.", "Name each once: results go by its name.")
    return found or everything


def plan(notebooks: list[Path], parameters: dict[str, Any]) -> list[Job]:
    """Check the parameters of every notebook, before the first kernel starts.

    Raises
    ------
    TrackError
        If IPEX does not belong to torch: importing it could end every kernel without a word.
    """
    if mismatch := ipex_mismatch():
        raise TrackError(f"{mismatch}.", f"pip uninstall {IPEX}, or see `xpuq doctor`.")
    return [Job(path, check_parameters(path, parameters)) for path in notebooks]


def execute(job: Job, out: Path) -> RunResult:
    """Execute one notebook in its own kernel; its failure is a result, not an exception.

    Parameters
    ----------
    job : Job
    out : pathlib.Path
        Folder that gets the executed notebook and its HTML page; a file appears there under its
        own name only when it is complete.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    executed, partial = out / job.notebook.name, out / f".{job.notebook.stem}.partial.ipynb"
    if executed.resolve() == job.notebook.resolve():
        raise RunError(f"{executed} would be overwritten by its result.", "Choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
    except OSError as failure:
        raise RunError(f"{out} cannot be written: {failure}", "Choose another --out.") from failure
    start = time.perf_counter()
    result, error = _run(job, partial)
    seconds = time.perf_counter() - start
    record = None
    page = executed.with_suffix(".html")
    if partial.exists():
        os.replace(partial, executed)
        try:
            _write_page(executed, page)
            record = read_record(executed)
        except Exception as failure:  # whatever nbconvert raises must not lose the other results
            result, error = (
                "failed",
                f"{error} {_one_line(type(failure).__name__, failure)}".strip(),
            )
    return RunResult(job.notebook.stem, record, seconds, result, error, executed, page)


def _run(job: Job, partial: Path) -> tuple[str, str]:
    """Execute into `partial`; returns the result and the error, empty if there is none."""
    for may_try_again in (True, False):
        try:
            papermill.execute_notebook(
                str(job.notebook),
                str(partial),
                job.parameters,
                kernel_name="python3",
                language="python",
                cwd=os.getcwd(),
                progress_bar=True,
                # ipykernel warns of loopback TCP, and logs Ctrl-C as an error with a traceback.
                extra_arguments=["--log-level=CRITICAL"],
            )
        except PapermillExecutionError as failure:
            where = f"in cell [{failure.exec_count}] of the executed notebook"
            return "failed", f"{where}: {_one_line(failure.ename, failure.evalue)}"
        except DeadKernelError:
            return "failed", "the kernel died (out of memory, or a crash in a library)"
        except KeyboardInterrupt:
            return "interrupted", "interrupted from the keyboard"
        except Exception as failure:  # one notebook's trouble must not stop the others
            # Kernels that start at the same time can race for a port: worth one more try.
            if may_try_again and "Kernel died before replying" in str(failure):
                continue
            return "failed", _one_line(type(failure).__name__, failure)
        return "passed", ""
    raise AssertionError("unreachable")


def _one_line(name: str, message: object) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    return f"{name}: {' '.join(text.split())}"


def _write_page(executed: Path, page: Path) -> None:
    exporter = nbconvert.HTMLExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # progress bars
    body, _ = exporter.from_filename(str(executed))
    _write(page, body)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


_INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>xpuqlib: executed notebooks</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #ccc; }}
  .failed, .interrupted {{ color: #a33c00; font-weight: 600; }}
</style>
<h1>Executed notebooks</h1>
<p>executed: int8 kernels on an Intel GPU. rehearsed: the same recipe in int8 kernels on the CPU.
reference: no int8 kernel ran.</p>
<table><tr><th>notebook<th>device<th>mode<th>int8 kernels<th>seconds<th>result</tr>
{rows}
</table>
"""


def write_index(results: list[RunResult], out: Path) -> Path:
    """Write ``index.html`` with one row for each result, and ``records.json``; returns the page."""
    quote = html.escape
    rows = "\n".join(
        f'<tr><td><a href="{quote(r.page.name)}">{quote(r.notebook)}</a>'
        + "".join(f"<td>{quote(cell)}" for cell in r.cells()[1:])
        + f'<td class="{r.result}">{r.result}{": " + quote(r.error) if r.error else ""}</tr>'
        for r in results
    )
    records = [r.record.to_dict() for r in results if r.record]
    _write(out / "records.json", json.dumps(records, indent=1))
    _write(out / "index.html", _INDEX.format(rows=rows))
    return out / "index.html"
