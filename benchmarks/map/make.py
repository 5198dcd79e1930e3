"""Run the tutorial's recipe over every classification model of torchvision, and keep what it did.

One kernel a model and batch size, in a sweep that goes on where it was interrupted. What is kept
lies in docs/map: runs as JSON lines, which `xpuq compare` reads, a table, and a page.
"""

import argparse
from pathlib import Path

import numpy
import torch
from table import read_maps, write_maps
from torchvision.models import get_model_weights

from xpuqlib.material import classifiers, least_size
from xpuqlib.runner import Grid, Result, keep_runs, read_runs, sweep

HERE = Path(__file__).parent
KEPT = HERE.parent.parent / "docs" / "map"
SMOKE = ("squeezenet1_1", "mnasnet0_5")
VERSION = ".".join(torch.__version__.split("+")[0].split(".")[:2])
AT_A_TIME = 8  # models of a job, before what is kept is written


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two small models, one batch size")
    parser.add_argument("--models", help="names, with commas between them; all by default")
    parser.add_argument("--batch-sizes", default="8", help="8 by default; 8,1 also times one image")
    parser.add_argument("--weights", default="random", help="random, or imagenet (downloads)")
    parser.add_argument("--data", default="synthetic", help="synthetic, or a folder of images")
    parser.add_argument("--drafted-only", action="store_true", help="lower and time nothing here")
    parser.add_argument("--jobs", type=int, default=1, help="kernels at a time; times need one")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, whose workers run them")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds for one model")
    parser.add_argument("--out", type=Path, help="folder of the executed notebooks")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what is kept")
    return parser.parse_args()


def main() -> None:
    """Sweep the models, and write what is kept after every few of them."""
    asked = arguments()
    models = SMOKE if asked.smoke else asked.models.split(",") if asked.models else by_effort()
    out = asked.out or Path("runs") / f"map-{VERSION}"
    groups = 1 if asked.scheduler else max(1, len(models) // (AT_A_TIME * asked.jobs))
    for batch_size in asked.batch_sizes.split(",")[: 1 if asked.smoke else None]:
        for group in numpy.array_split(models, groups):
            print(f"batch {batch_size}: {', '.join(group)}")
            keep(asked.kept, sweep_some(group.tolist(), int(batch_size), asked, out))
    print(f"{asked.kept / 'index.html'}; runs: {out}")


def sweep_some(
    models: list[str], batch_size: int, asked: argparse.Namespace, out: Path
) -> list[Result]:
    """Run one kernel a model; what has run before is read."""
    values = {"model": models, "batch_size": [batch_size]}
    if asked.weights != "random" or asked.data != "synthetic":
        values |= {"weights": [asked.weights], "data": [asked.data]}
    if asked.drafted_only:
        values["rehearsed"] = [False]
    return sweep(
        HERE / "one_model.ipynb",
        Grid(parameters=values),
        out,
        jobs=asked.jobs,
        scheduler=asked.scheduler,
        timeout=asked.timeout,
        resume=True,
    )


def keep(folder: Path, made: list[Result]) -> None:
    """Add runs to those that are kept, and write the tables and the page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"torch-{VERSION}.jsonl"
    before = read_runs(kept) if kept.exists() else []
    runs = {str(sorted(run.parameters.items())): run for run in [*before, *made]}
    keep_runs(list(runs.values()), kept)
    write_maps(folder, read_maps(folder))


def by_effort() -> list[str]:
    """Name all models, those with the least arithmetic first, so that the table grows fast."""

    def effort(name: str) -> float:
        operations = get_model_weights(name).DEFAULT.meta["_ops"]  # billions, at 224 or more pixels
        return operations * max(1, least_size(name) / 96) ** 2

    return sorted(classifiers(), key=effort)


if __name__ == "__main__":
    main()
