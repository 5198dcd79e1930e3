"""Print what the runner costs: beside bare papermill, with two jobs, and for a thousand records."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill

from xpuqlib.runner import sweep
from xpuqlib.runner.results import read_results

LESSON = "notebooks/08_one_recipe_many_runs.ipynb"


def seconds(function, *arguments, **keywords) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - start


def bare(folder: Path, turn: int) -> None:
    """Execute the lesson as its author would without a runner."""
    target = folder / f"{turn}.ipynb"
    papermill.execute_notebook(LESSON, target, {"seed": 0}, progress_bar=False)


def ours(folder: Path, turn: int) -> None:
    """Execute the same as a sweep of one run, with its page and record."""
    sweep(LESSON, {"seed": 0}, folder / f"sweep-{turn}")


def overhead(folder: Path) -> None:
    """Take turns, so that what else the machine does meets both."""
    bare(folder, 0)  # fills the caches
    times = {ours: [], bare: []}
    for turn in range(1, 4):
        for function, measured in times.items():
            measured.append(seconds(function, folder, turn))
    runner, alone = (sum(measured) for measured in times.values())
    added = runner / alone - 1
    print(f"three runs: runner {runner:.1f} s, bare papermill {alone:.1f} s: {added:+.1%}")


def throughput(folder: Path) -> None:
    """Single-threaded runs, with one kernel and with two at a time."""
    cell = nbformat.v4.new_code_cell("n: int = 0", metadata={"tags": ["parameters"]})
    work = nbformat.v4.new_code_cell("for i in range(10**8): n += i")
    path = folder / "work.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell, work], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    grid = {"n": list(range(6))}
    one, two = (seconds(sweep, path, grid, folder / f"jobs-{jobs}", jobs=jobs) for jobs in (1, 2))
    print(f"six single-threaded runs: one job {one:.1f} s, two jobs {two:.1f} s: {one / two:.2f}×")


def report(folder: Path) -> None:
    """Read a thousand copies of the first run."""
    [one] = read_results(folder / "sweep-1")
    (folder / "thousand").mkdir()
    for n in range(1000):
        shutil.copy(one.path, folder / "thousand" / f"{n:04}.ipynb")
    size = one.path.stat().st_size / 1e3
    code = f"""
import resource
from pathlib import Path
from xpuqlib.runner.report import write_report
write_report(Path({str(folder / "thousand")!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""
    start = time.perf_counter()
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    taken, peak = time.perf_counter() - start, float(child.stdout)
    print(f"report on 1,000 runs of {size:.0f} kB: {taken:.1f} s, at most {peak:.0f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        overhead(Path(name))
        throughput(Path(name))
        report(Path(name))
