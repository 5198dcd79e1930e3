"""The map of torchvision's models: made by one command, and still true for eight small ones."""

import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from conftest import large_on, no_torch_in_it
from torchvision.models import detection, list_models, segmentation

from xpuqlib.runner.drafts import Recipe, draft_model
from xpuqlib.runner.kept import read_runs

ROOT = Path(__file__).parent.parent
MAP = ROOT / "benchmarks" / "map"
KEPT = ROOT / "docs" / "map"
PAGE = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
MAPS = sorted(KEPT.glob("torch-*.jsonl"))
SMALL = {
    "alexnet": "current",
    "efficientnet_b0": "current",
    "mnasnet0_5": "ipex",
    "mobilenet_v3_small": "ipex",
    "regnet_y_400mf": "ipex",
    "resnet18": "ipex",
    "shufflenet_v2_x0_5": "current",
    "squeezenet1_1": "current",
}


def counts(results, model):
    """Layers of a model, and those with an int8 call in the drafted program, by each map."""
    found = [r.record for r in results if r.parameters["model"] == model and r.record]
    kinds = [list(record.evidence["counts"].values()) for record in found]
    return {
        tuple(sum(kind[stage] for kind in one) for stage in ("in the model", "drafted"))
        for one in kinds
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=large_on(track)) for model, track in SMALL.items()]
)
def test_the_committed_map_says_what_is_drafted_here(model):
    version = ".".join(torch.__version__.split(".")[:2])
    path = KEPT / f"torch-{version}.jsonl"
    if not path.exists():
        pytest.skip(f"there is no map of torch {version} to compare with: make map")
    made = draft_model(Recipe(model=model, image_size=96, batch_size=2))
    here = made.layers, made.layers - len(made.left)
    assert counts(read_runs(path), model) == {here}


@pytest.mark.slow
@no_torch_in_it("current")
def test_the_command_maps_a_model_and_goes_on_where_it_was(tmp_path):
    def make(*arguments):
        command = [sys.executable, MAP / "make.py", "--drafted-only"]
        folders = ["--out", tmp_path / "runs", "--kept", tmp_path / "kept"]
        one = ["--models", "squeezenet1_1", "--batch-sizes", "1"]
        child = subprocess.run([*command, *folders, *one, *arguments], capture_output=True)
        assert child.returncode == 0, child.stderr[-2000:]

    make()
    [kept] = (tmp_path / "kept").glob("torch-*.jsonl")
    [run] = read_runs(kept)
    assert run.outcome == "drafted"
    assert counts([run], "squeezenet1_1") == {(26, 26)}
    assert all(claim.holds for claim in run.record.claims)
    page = (tmp_path / "kept" / "index.html").read_text(encoding="utf-8")
    assert "squeezenet1_1<br>26 of 26" in page
    [executed] = (tmp_path / "runs").glob("*.ipynb")
    before = executed.stat().st_mtime_ns
    make()
    assert executed.stat().st_mtime_ns == before


def is_named_as_slower(run):
    """Whether docs/map.md gives a cause for what is slower in int8."""
    section = PAGE.partition("## Slower in int8 than in fp32")[2].partition("\n## ")[0]
    return f"`{run.parameters['model']}`" in section


def test_every_map_has_every_classifier_and_no_gap_without_a_reason():
    assert MAPS
    for path in MAPS:
        runs = read_runs(path)
        assert len({run.parameters["model"] for run in runs}) >= 80
        assert path.stem.removeprefix("torch-") in PAGE
        lost = [
            (run.parameters["model"], claim.text)
            for run in runs
            for claim in run.record.claims
            if not claim.holds
            and not (claim.text.startswith("int8 is not slower") and is_named_as_slower(run))
        ]
        assert lost == [], path.name


def test_every_model_is_lowered_on_torch_2_15_and_what_is_slower_in_int8_is_named():
    records = [run.record for run in read_runs(KEPT / "torch-2.15.jsonl")]
    lowered = [record for record in records if record.mode == "rehearsed"]
    assert len({record.parameters["model"] for record in lowered}) >= 80
    for record in lowered:
        for kind in record.evidence["counts"].values():
            assert kind["generated"] == kind["matched"] == kind["drafted"], record.parameters
    slower = [r for r in lowered if r.metrics["speed_against_fp32_compiled"] < 1]
    assert slower
    assert [r.parameters for r in slower if not is_named_as_slower(r)] == []


@pytest.mark.slow
@large_on("current")
def test_the_table_of_segmentation_and_detection_is_still_true(tmp_path):
    names = ["lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"]
    command = [sys.executable, MAP / "dense.py", "--models", ",".join(names)]
    child = subprocess.run([*command, "--kept", tmp_path / "dense.csv"], capture_output=True)
    assert child.returncode == 0, child.stderr[-2000:]
    here, kept = (pandas.read_csv(path) for path in (tmp_path / "dense.csv", KEPT / "dense.csv"))
    exact = ["model", "part", "layers", "in the program", "quantized", "drafted"]
    assert here[exact].equals(kept[kept["model"].isin(names)][exact].reset_index(drop=True))
    assert (here["quantized"] == here["drafted"]).sum() == 2
    [whole] = here[(here["part"] == "whole") & here["quantized"].isna()]["not captured"]
    assert "torch.export cannot capture SSD" in whole
    assert set(kept["model"]) == {
        name for task in (segmentation, detection) for name in list_models(task)
    }
