"""Print what the runner costs: beside bare papermill, with two jobs, and for a thousand records."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from smoke import stand_in, wants_smoke

from xpuqlib.runner import sweep
from xpuqlib.runner.results import read_results

LESSON = Path("notebooks/08_one_recipe_many_runs.ipynb")


def seconds(function, *arguments, **keywords) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function(*arguments, **keywords)
    return time.perf_counter() - start


def bare(lesson: Path, folder: Path, turn: int) -> None:
    """Execute the lesson as its author would without a runner."""
    target = folder / f"{turn}.ipynb"
    papermill.execute_notebook(lesson, target, {"seed": 0}, progress_bar=False)


def ours(lesson: Path, folder: Path, turn: int) -> None:
    """Execute the same as a sweep of one run, with its page and record."""
    sweep(lesson, {"seed": 0}, folder / f"sweep-{turn}")


def overhead(lesson: Path, folder: Path, turns: int) -> None:
    """Take turns, so that what else the machine does meets both."""
    bare(lesson, folder, 0)  # fills the caches
    times = {ours: [], bare: []}
    for turn in range(1, turns + 1):
        for function, measured in times.items():
            measured.append(seconds(function, lesson, folder, turn))
    runner, alone = (sum(measured) for measured in times.values())
    added = runner / alone - 1
    print(f"{turns} runs: runner {runner:.1f} s, bare papermill {alone:.1f} s: {added:+.1%}")


def throughput(folder: Path, count: int, steps: int) -> None:
    """Single-threaded runs, with one kernel and with two at a time."""
    cell = nbformat.v4.new_code_cell("n: int = 0", metadata={"tags": ["parameters"]})
    work = nbformat.v4.new_code_cell(f"for i in range({steps}): n += i")
    path = folder / "work.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell, work], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    grid = {"n": list(range(count))}
    one, two = (seconds(sweep, path, grid, folder / f"jobs-{jobs}", jobs=jobs) for jobs in (1, 2))
    taken = f"one job {one:.1f} s, two jobs {two:.1f} s: {one / two:.2f}×"
    print(f"{count} single-threaded runs: {taken}")


def report(folder: Path, count: int) -> None:
    """Read many copies of the first run."""
    [one] = read_results(folder / "sweep-1")
    (folder / "copies").mkdir()
    for n in range(count):
        shutil.copy(one.path, folder / "copies" / f"{n:04}.ipynb")
    size = one.path.stat().st_size / 1e3
    code = f"""
import resource
from pathlib import Path
from xpuqlib.runner.report import write_report
write_report(Path({str(folder / "copies")!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""
    start = time.perf_counter()
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    taken, peak = time.perf_counter() - start, float(child.stdout)
    print(f"report on {count:,} runs of {size:.0f} kB: {taken:.1f} s, at most {peak:.0f} MB")


if __name__ == "__main__":
    smoke = wants_smoke(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overhead(stand_in(folder) if smoke else LESSON, folder, turns=1 if smoke else 3)
        throughput(folder, *((2, 10) if smoke else (6, 10**8)))
        report(folder, 3 if smoke else 1000)
