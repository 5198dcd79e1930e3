"""One notebook in one kernel, through papermill: its end is always a result, never an exception."""

import asyncio
import os
import re
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbconvert
import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError

from xpuqlib.machine.environment import RESULTS

__all__ = [
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
]

PASSED, FAILED, TIMED_OUT, INTERRUPTED = "passed", "failed", "timed out", "interrupted"
METADATA = "xpuqlib"  # key of the outcome in the metadata of an executed notebook


@dataclass(frozen=True)
class Task:
    """What a kernel needs to know; plain values, so that it can travel to another machine.

    Attributes
    ----------
    name : str
        Stem of the files that it will leave.
    lesson : str
        The notebook's name without its ending.
    notebook : str
        Its content, JSON.
    parameters : dict
        Checked values.
    share : int or None
        Kernels that share the cores of the machine; None leaves the number of threads alone.
    timeout : float or None
        Seconds from the kernel's start after which it is ended.
    group : str
        Tasks with the same word are ended together.
    """

    name: str
    lesson: str
    notebook: str
    parameters: dict[str, Any]
    share: int | None = None
    timeout: float | None = None
    group: str = ""


@dataclass(frozen=True)
class Executed:
    """How a task ended: the executed notebook (JSON), its HTML page ("" for none), the outcome.

    `files` are those that the notebook left in `xpuqlib.machine.results_folder`, by name.
    """

    task: Task
    notebook: str
    page: str
    result: str
    error: str
    seconds: float
    files: Mapping[str, bytes] = field(default_factory=dict)


def run_task(task: Task, progress_bar: bool = False) -> Executed:
    """Execute a task in a kernel of its own; what was executed is kept, also of one that fails."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xpuqlib-") as folder:
        path, left = Path(folder) / f"{task.lesson}.ipynb", Path(folder) / "results"
        result, error = _run(task, path, progress_bar)
        seconds = time.perf_counter() - start
        notebook = path.read_text(encoding="utf-8") if path.exists() else task.notebook
        files = {file.name: file.read_bytes() for file in left.glob("*") if file.is_file()}
    return replace(finish(task, notebook, result, error, seconds), files=files)


def finish(task: Task, notebook: str, result: str, error: str, seconds: float) -> Executed:
    """Write the outcome into the notebook's metadata, and make its page."""
    node, page = nbformat.reads(task.notebook, as_version=4), ""  # for one that is half-written
    try:
        node = nbformat.reads(notebook, as_version=4)
        page = "" if result == INTERRUPTED else _page(node)
    except Exception as failure:  # whatever nbconvert raises must not lose the executed notebook
        result, error = FAILED, f"{error} {_one_line(type(failure).__name__, failure)}".strip()
    ended = {"result": result, "error": error, "seconds": seconds}
    node.metadata[METADATA] = {"lesson": task.lesson, "parameters": task.parameters, **ended}
    node.metadata.pop("papermill", None)  # it names the temporary folder
    return Executed(task, nbformat.writes(node), page, result, error, seconds)


_running: dict[AsyncKernelManager, str] = {}
_ended: set[str] = set()


def end_kernels(group: str) -> None:
    """Kill this process's kernels of a group, with their children, and let no other start."""
    _ended.add(group)
    for manager, of_group in list(_running.items()):
        if of_group == group:
            _kill(manager)


def _kill(manager: AsyncKernelManager) -> None:
    # A thread of its own: the caller's may have a running event loop, as in a notebook.
    ending = threading.Thread(target=lambda: asyncio.run(manager.provisioner.kill()))
    ending.start()
    ending.join()


def _threads(share: int | None) -> dict[str, str]:
    """Variables that keep kernels which run at the same time from crowding the cores."""
    if share is None:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    return dict.fromkeys(names, str(max(1, cores // share)))


def _manager_class(task: Task, left: Path, timed_out: threading.Event) -> type[AsyncKernelManager]:
    """Make the kernel manager of one task; nbclient makes the instance, and cleans it up."""

    class TaskKernelManager(AsyncKernelManager):
        timer: threading.Timer | None = None

        async def start_kernel(self, **kwargs: Any) -> None:
            own = _threads(task.share) | {RESULTS: str(left)}
            await super().start_kernel(env=os.environ | own, **kwargs)
            _running[self] = task.group
            if task.group in _ended:
                _kill(self)
            if task.timeout is not None:
                self.timer = threading.Timer(task.timeout, self.end)
                self.timer.daemon = True
                self.timer.start()

        def end(self) -> None:
            timed_out.set()
            _kill(self)

        async def cleanup_resources(self, restart: bool = False) -> None:
            _running.pop(self, None)
            if self.timer:
                self.timer.cancel()
            await super().cleanup_resources(restart)

    return TaskKernelManager


def _run(task: Task, executed: Path, progress_bar: bool, again: bool = True) -> tuple[str, str]:
    """Execute into `executed`; returns the result and the error, empty if there is none."""
    timed_out = threading.Event()
    try:
        papermill.execute_notebook(
            nbformat.reads(task.notebook, as_version=4),
            str(executed),
            task.parameters,
            kernel_name="python3",
            language="python",
            progress_bar=progress_bar,
            kernel_manager_class=_manager_class(task, executed.parent / "results", timed_out),
            # ipykernel warns of loopback TCP, and logs Ctrl-C as an error with a traceback.
            extra_arguments=["--log-level=CRITICAL"],
        )
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted from the keyboard"
    except Exception as failure:  # one notebook's trouble must not stop the others
        if timed_out.is_set():
            return TIMED_OUT, f"ended after {task.timeout:g} s"
        # Kernels that start at the same time can race for a port: worth one more try.
        if again and "Kernel died before replying" in str(failure):
            return _run(task, executed, progress_bar, again=False)
        return FAILED, _message(failure)
    return PASSED, ""


def _message(failure: Exception) -> str:
    if isinstance(failure, PapermillExecutionError):
        where = f"in cell [{failure.exec_count}] of the executed notebook"
        return f"{where}: {_one_line(failure.ename, failure.evalue)}"
    if isinstance(failure, DeadKernelError):
        return "the kernel died (out of memory, or a crash in a library)"
    return _one_line(type(failure).__name__, failure)


def _one_line(name: str, message: object) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    return f"{name}: {' '.join(text.split())}"


def _page(notebook: nbformat.NotebookNode) -> str:
    coalesce = CoalesceStreamsPreprocessor(enabled=True)  # progress bars
    return nbconvert.HTMLExporter(preprocessors=[coalesce]).from_notebook_node(notebook)[0]
