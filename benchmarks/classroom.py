"""Print what several students cost one machine: memory of each kernel, time against one kernel."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas
import psutil

from xpuqlib.runner.execute import Job
from xpuqlib.runner.kernel import PASSED, run_task

LESSON = Path("notebooks/03_pt2e_default_configuration.ipynb")
STUDENTS = (1, 2, 4, 8)


def kernels() -> list[psutil.Process]:
    """Kernels that this process started."""
    children = psutil.Process().children()
    return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]


def watch(peaks: dict[int, int], done: threading.Event) -> None:
    """Keep the most memory that each kernel had to itself, in bytes."""
    while not done.wait(0.5):
        try:
            for kernel in kernels():
                held = kernel.memory_full_info().uss
                peaks[kernel.pid] = max(peaks.get(kernel.pid, 0), held)
        except psutil.NoSuchProcess:
            continue  # it ended between two looks


def measure(students: int, share: bool) -> tuple[float, float]:
    """Seconds until all have finished, and the largest memory of one kernel in GB."""
    task = replace(Job(LESSON, {}).task(), share=students if share else None)
    peaks: dict[int, int] = {}
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, done))
    watcher.start()
    start = time.perf_counter()
    with ThreadPoolExecutor(students) as executor:
        results = [executed.result for executed in executor.map(run_task, [task] * students)]
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    assert set(results) == {PASSED}, results
    return seconds, max(peaks.values()) / 1e9


def main() -> None:
    """Measure with all threads for each kernel, and with a share of the cores for each."""
    measure(1, share=False)  # fills the caches
    alone, _ = measure(1, share=False)
    rows = []
    for students in STUDENTS:
        row = {"kernels at once": students}
        for share, label in ((False, "all cores to each"), (True, "OMP_NUM_THREADS = share")):
            seconds, memory = measure(students, share)
            row[f"time against one, {label}"] = f"{seconds / alone:.1f}×"
        rows.append(row | {"memory of each (GB)": f"{memory:.2f}"})
    print(f"{LESSON.stem}, one kernel: {alone:.0f} s; {psutil.cpu_count()} cores")
    print(pandas.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
