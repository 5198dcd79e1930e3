"""A notebook over a grid of parameters: on this machine's cores, or on the workers of Dask."""

import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from xpuqlib.errors import RunError, TrackError, explained
from xpuqlib.runner.execution import plan
from xpuqlib.runner.grid import Grid
from xpuqlib.runner.kernel import FAILED, PASSED, Executed, Task, end_kernels, finish, run_task
from xpuqlib.runner.naming import all_versions, identity, run_names
from xpuqlib.runner.results import Result, check_folder, read_result, store

__all__ = ["sweep"]

# Where kernels run: how to submit, how many share a machine's cores, how to end them all.
Place = tuple[Callable[..., "Future[Executed]"], int | None, Callable[[], Any]]


def sweep(
    notebook: Path | str,
    grid: Grid | dict[str, Any],
    out: Path | str,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    resources: dict[str, float] | None = None,
    resume: bool = False,
    timeout: float | None = None,
) -> list[Result]:
    """Execute a notebook once for every run of a grid, each in a kernel of its own.

    A finished run is at once a file in `out`, so that whatever ends the sweep loses none.

    Parameters
    ----------
    notebook : path
    grid : Grid or dict of str to list
        Values by name; every combination is a run.
    out : path
        Folder for the executed notebooks and their pages.
    jobs : int
        Kernels at the same time on this machine. Each gets its share of the cores.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:port``: its workers run the kernels.
    resources : dict of str to float, optional
        What a run takes of a Dask worker, such as ``{"XPU": 1}``.
    resume : bool
        Keep the runs in `out` that passed, and execute the others only.
    timeout : float, optional
        Seconds after which a run's kernel is ended.

    Returns
    -------
    list of Result
        In the order of the grid; a run that failed is a result, too.

    Raises
    ------
    ParameterError
        If a parameter or value is impossible; nothing was started.
    RunError
        If the folder or the scheduler cannot be used, or holds these runs already.
    KeyboardInterrupt
        As it came; no kernel of this sweep is left on this machine or on the workers.
    """
    grid = grid if isinstance(grid, Grid) else Grid(parameters=grid)
    out, group = Path(out), uuid.uuid4().hex
    numbers = [jobs, 1 if timeout is None else timeout, *(resources or {}).values()]
    if not all(number > 0 for number in numbers) or (timeout or 1) > 1e7:
        given = f"jobs={jobs}, timeout={timeout}, resources={resources}"
        raise RunError(f"{given} is not possible.", "Take positive numbers.")
    runs = {identity(job): job for job in plan([Path(notebook)], *grid.runs())}
    check_folder(out)
    names = run_names(runs, out)
    planned = {names[key]: job for key, job in runs.items()}
    files = {name: out / f"{name}.ipynb" for name in planned}
    results = {name: read_result(path) for name, path in files.items() if path.exists()}
    if results and not resume:
        held = f"{out} holds {len(results)} of these {len(planned)} runs."
        raise RunError(held, "Add --resume to keep what passed, or choose another --out.")
    results = {name: r for name, r in results.items() if r is not None and r.result == PASSED}
    left = {name: job for name, job in planned.items() if name not in results}
    tasks = [job.task(name=name, group=group, timeout=timeout) for name, job in left.items()]
    where = _on_dask(scheduler, resources or {}, group) if scheduler else _here(jobs, group)
    bar = {"total": len(planned), "initial": len(results), "desc": Path(notebook).stem}
    with where as (submit, share, end), tqdm(**bar, unit="run") as progress:
        running: dict[Future[Executed], Task] = {}
        try:
            running |= {submit(run_task, replace(task, share=share)): task for task in tasks}
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)  # an executed notebook is large: keep none
                    results[task.name] = store(_executed(future, task), out)
                    progress.update()
                progress.set_postfix(failed=sum(r.result != PASSED for r in results.values()))
        except BaseException:  # Ctrl-C, a full disk: raised again once no kernel is left
            for future in running:
                future.cancel()
            end()
            raise
    return [results[name] for name in planned]


def _executed(future: Future[Executed], task: Task) -> Executed:
    try:
        return future.result()
    except (Exception, CancelledError) as failure:  # the way there failed, such as a lost worker
        error = f"{type(failure).__name__}: {failure}"
        if isinstance(failure, CancelledError):
            error = "the connection to the scheduler was lost; --resume executes it again"
        return finish(task, task.notebook, FAILED, error, 0)


@contextmanager
def _here(jobs: int, group: str) -> Iterator[Place]:
    # Threads are enough: each waits for a kernel, and the kernels are the processes.
    with ThreadPoolExecutor(jobs) as executor:
        yield executor.submit, jobs if jobs > 1 else None, lambda: end_kernels(group)


@contextmanager
def _on_dask(scheduler: str, resources: dict[str, float], group: str) -> Iterator[Place]:
    with explained(ImportError, "Dask is not installed", 'pip install -e ".[dask]"'):
        from distributed import Client
    silent = f"No Dask scheduler answers at {scheduler}"
    with explained((OSError, ValueError), silent, "Start one: dask scheduler"):
        client = Client(scheduler, timeout=10)
    with client:
        start = f"Start one: dask worker {scheduler} --nthreads 1"
        with explained(TimeoutError, f"{scheduler} has no worker", f"{start}."):
            client.wait_for_workers(1, timeout=30)
        fix = "Install it there, in the same version."
        # Whatever its Python raises where xpuqlib is not installed.
        with explained(Exception, "A worker cannot use xpuqlib", fix):
            workers = client.run(_describe_worker)
        slots: Counter[str] = Counter()
        for address, worker in workers.items():
            if worker["versions"] != all_versions():
                differ = f"Worker {address} has {worker['versions']}, here is {all_versions()}."
                raise TrackError(differ, "Install the same versions everywhere.")
            fit = [int(worker["resources"].get(name, 0) / n) for name, n in resources.items()]
            slots[worker["host"]] += min([worker["threads"], *fit])
        if not max(slots.values()):  # Dask would wait for such a worker without a word
            wanted = ",".join(f"{name}={n:g}" for name, n in resources.items())
            missing = f"No worker has the resources {wanted}."
            raise RunError(missing, f"{start} --resources {wanted}.")
        executor = client.get_executor(pure=False, resources=resources)
        yield executor.submit, max(slots.values()), lambda: client.run(end_kernels, group)


def _describe_worker(dask_worker: Any) -> dict[str, Any]:
    state = dask_worker.state
    here = {"versions": all_versions(), "host": socket.gethostname()}
    return here | {"threads": state.nthreads, "resources": dict(state.total_resources)}
