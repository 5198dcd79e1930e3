"""Print what several students cost one machine: memory of each kernel, time against one kernel."""

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas
import psutil
import torch
from smoke import stand_in, wants_smoke

from xpuqlib.machine.device import choose_device, describe_device
from xpuqlib.runner.execution import Job
from xpuqlib.runner.kernel import PASSED, run_task

LESSON = Path("notebooks/01_quantization_by_hand.ipynb")
STUDENTS = (2, 4, 8, 30)


def kernels() -> list[psutil.Process]:
    """Kernels that this process started."""
    children = psutil.Process().children()
    return [child for child in children if "ipykernel_launcher" in " ".join(child.cmdline())]


def on_device() -> int:
    """Bytes in use on the accelerator that the lessons choose; 0 without one."""
    kind = choose_device().type
    if kind == "cpu":
        return 0
    free, total = getattr(torch, kind).mem_get_info()
    return total - free


def watch(peaks: dict[int | str, int], done: threading.Event) -> None:
    """Keep the most memory that each kernel had to itself, and all on the device, in bytes."""
    while not done.wait(0.5):
        peaks["device"] = max(peaks["device"], on_device())
        try:
            for kernel in kernels():
                held = kernel.memory_full_info().uss
                peaks[kernel.pid] = max(peaks.get(kernel.pid, 0), held)
        except psutil.NoSuchProcess:
            continue  # it ended between two looks


def measure(lesson: Path, students: int, share: bool = False) -> tuple[float, float, float]:
    """Seconds until all have finished, GB of the largest kernel, GB of all on the device."""
    task = replace(Job(lesson, {}).task(), share=students if share else None)
    before = on_device()
    peaks: dict[int | str, int] = {"device": before}
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
    device = (peaks.pop("device") - before) / 1e9
    return seconds, max(peaks.values()) / 1e9, device


def main() -> None:
    """Measure the lesson, or with --smoke a notebook that computes nothing."""
    smoke = wants_smoke(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        lesson = stand_in(Path(folder)) if smoke else LESSON
        compare(lesson, (2,) if smoke else STUDENTS)


def compare(lesson: Path, numbers: tuple[int, ...]) -> None:
    """Print a table: all threads for each kernel, and a share of the cores for each."""
    measure(lesson, 1)  # fills the caches
    alone, memory, device = measure(lesson, 1)
    rows = [(1, "1", "1", f"{memory:.2f}", f"{device:.2f}")]
    for students in numbers:
        if students * 1e9 * memory > psutil.virtual_memory().available:
            print(f"{students} kernels would not fit into this machine's memory.")
            break
        seconds, memory, device = measure(lesson, students)
        shared, *_ = measure(lesson, students, share=True)
        times = f"{seconds / alone:.2f}", f"{shared / alone:.2f}"
        rows.append((students, *times, f"{memory:.2f}", f"{device:.2f}"))
    columns = [
        "kernels",
        "time against one",
        "with a share of the cores each",
        "memory of each (GB)",
        "device memory of all (GB)",
    ]
    where = describe_device(choose_device())
    print(f"{lesson.stem}, one kernel: {alone:.0f} s; {psutil.cpu_count()} cores, {where.name}")
    print(pandas.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main()
