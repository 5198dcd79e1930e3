"""Sweep lesson 08 over twelve recipes, here with two jobs and on Dask with two workers; compare."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distributed import Client
from smoke import stand_in, wants_smoke

from xpuqlib.runner import sweep
from xpuqlib.runner.report import write_report

LESSON = Path("notebooks/08_one_recipe_many_runs.ipynb")
GRID = {
    "model": ["resnet18", "mobilenet_v2", "googlenet"],
    "configuration": ["default", "symmetric"],
    "batch_size": [8, 32],
}
SMOKE_GRID = {"model": ["resnet18", "mobilenet_v2"]}
# Same machine, same threads: only what the number of threads adds up in another order may differ.
TOLERANCE = {"top1_fp32": 0.005, "top1_quantized": 0.005, "sqnr_to_fp32_db": 0.1}


def on_dask(lesson: Path, grid: dict[str, list], out: Path, folder: Path) -> list:
    """Start a scheduler and two workers on this machine, sweep, and end them."""
    address = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen(
            [*dask, "scheduler", "--port", "0", *options, "--scheduler-file", str(address)], **quiet
        )
    ]
    try:
        while not (address.exists() and address.read_text().endswith("}")):
            time.sleep(0.1)
        scheduler = json.loads(address.read_text())["address"]
        for _ in range(2):
            command = [*dask, "worker", scheduler, "--nthreads", "1", *options]
            started.append(subprocess.Popen([*command, "--local-directory", str(folder)], **quiet))
        with Client(scheduler) as client:
            client.wait_for_workers(2, timeout=120)
        return sweep(lesson, grid, out, scheduler=scheduler)
    finally:
        for process in started:
            process.terminate()
            process.wait()


def differences(here: list, there: list) -> list[str]:
    """List what is not the same within the tolerance."""
    found = []
    for one, other in zip(here, there, strict=True):
        if one.outcome != other.outcome or not one.record or not other.record:
            found.append(f"{one.parameters}: {one.outcome} {one.error}, {other.outcome}")
            continue
        for name, tolerance in TOLERANCE.items():
            values = [result.record.metrics[name] for result in (one, other)]
            if abs(values[0] - values[1]) > tolerance:
                found.append(f"{one.parameters}: {name} {values}")
    return found


if __name__ == "__main__":
    smoke = wants_smoke(__doc__)
    out = Path("runs") / time.strftime("twelve-%Y%m%d-%H%M%S")
    with tempfile.TemporaryDirectory() as name:
        lesson, grid = (stand_in(Path(name)), SMOKE_GRID) if smoke else (LESSON, GRID)
        here = sweep(lesson, grid, out / "here", jobs=2)
        there = on_dask(lesson, grid, out / "dask", Path(name))
    for folder in ("here", "dask"):
        print(write_report(out / folder))
    compiled = [sum(r.record.compiled_files for r in side if r.record) for side in (here, there)]
    print(f"C++ files compiled: {compiled[0]} by the first sweep, {compiled[1]} by the second")
    if wrong := differences(here, there):
        sys.exit("\n".join(wrong))
    print(f"{len(here)} runs, the same on Dask within {TOLERANCE}")
