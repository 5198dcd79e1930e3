"""What the benchmarks share: --smoke, and a short notebook that stands in for a lesson then."""

import argparse
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

PARAMETERS = """
device: str = "cpu"
model: str = "resnet18"
configuration: str = "default"
batch_size: int = 8
seed: int = 0
"""
RECORD = """
from xpuqlib.proof.record import RunRecord

RunRecord(
    lesson="stand_in",
    parameters={"model": model, "configuration": configuration, "batch_size": batch_size},
    device=device,
    device_name="no device",
    mode="reference",
    seconds=0,
    metrics={"top1_fp32": 0.5, "top1_quantized": 0.5, "sqnr_to_fp32_db": 30.0,
             "latency_quantized_s": 0.01, "speed_against_fp32_compiled": 1.0},
)
"""


def wants_smoke(description: str) -> bool:
    """Read the command line; ``--smoke`` asks for the smallest sizes, whose times mean nothing."""
    parser = argparse.ArgumentParser(description=description)
    said = "smallest sizes, in seconds: shows that the benchmark works; its numbers mean nothing"
    parser.add_argument("--smoke", action="store_true", help=said)
    smoke = parser.parse_args().smoke
    if smoke:
        print("--smoke: the smallest sizes; these numbers say nothing about speed")
    return smoke


def stand_in(folder: Path) -> Path:
    """Write a notebook with a lesson's parameters and a made-up record, and nothing between."""
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [parameters, new_code_cell(RECORD)]
    path = folder / "stand_in.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path
