import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from xpuqlib.errors import RunError
from xpuqlib.proof.record import MIME_TYPE, RunRecord, read_record


@pytest.fixture
def record():
    return RunRecord(
        lesson="03",
        parameters={"batch_size": 8},
        device="cpu",
        device_name="a CPU",
        mode="rehearsed",
        metrics={"top1": 0.98, "sqnr": float("inf")},
        seconds=1.5,
        seed=0,
    )


def write(path, data):
    cell = new_code_cell("record", outputs=[new_output("display_data", data=data)])
    nbformat.write(new_notebook(cells=[new_code_cell("1"), cell]), path)


def test_a_record_comes_back_from_its_notebook(record, tmp_path):
    write(tmp_path / "run.ipynb", record._repr_mimebundle_())
    assert read_record(tmp_path / "run.ipynb") == record
    assert record.versions["torch"]
    assert record.metrics["sqnr"] is None  # JSON has no infinity


def test_a_record_is_readable_for_people(record):
    bundle = record._repr_mimebundle_()
    assert "rehearsed on cpu (a CPU)" in bundle["text/html"]
    assert "undefined" in bundle["text/plain"]


def test_a_notebook_without_record_gives_none(tmp_path):
    write(tmp_path / "run.ipynb", {"text/plain": "1"})
    assert read_record(tmp_path / "run.ipynb") is None


def test_a_broken_record_is_an_error(tmp_path):
    write(tmp_path / "run.ipynb", {MIME_TYPE: {"lesson": "03"}})
    with pytest.raises(RunError, match="cannot be read"):
        read_record(tmp_path / "run.ipynb")
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    with pytest.raises(RunError, match="cannot be read"):
        read_record(tmp_path / "cut.ipynb")


def test_a_record_says_how_many_layers_are_int8(record):
    assert record.int8_kernels() == "–"
    counts = {"conv": {"in the model": 20, "generated": 19}, "linear": {"in the model": 0}}
    with_evidence = record.model_copy(update={"evidence": {"counts": counts}})
    assert with_evidence.int8_kernels() == "19 of 20 conv"


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from conftest import TinyNet, quantize
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture
from xpuqlib.proof.record import compiled_files
torch.manual_seed(0)
model, x = TinyNet().eval(), torch.randn(8, 3, 16, 16)
lower(quantize(capture(model, (x,)), x), (x,))
before = compiled_files()
capture(model, (x,))  # a strict export empties Dynamo's own counters
print(before, compiled_files())
"""


@pytest.mark.slow
def test_the_second_run_compiles_nothing_and_the_counter_says_so(tmp_path):
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    counts = []
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1])],
            capture_output=True,
            text=True,
            env=env,
            check=True,
        )
        counts.append([int(number) for number in child.stdout.split()])
    (first, after_export), second = counts
    assert first == after_export > 0
    assert second == [0, 0]
