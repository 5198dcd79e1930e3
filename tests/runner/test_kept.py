import json

import pytest
from conftest import no_torch_in_it
from typer.testing import CliRunner

from xpuqlib.cli import app
from xpuqlib.errors import RunError
from xpuqlib.proof.record import RunRecord
from xpuqlib.runner.kept import keep_runs, read_runs
from xpuqlib.runner.results import Result

pytestmark = no_torch_in_it("current")


def layer(name, drafted):
    stages = {"quantized": True, "drafted": drafted, "matched": True, "generated": True}
    return {"name": name, "kind": "conv", "reason": ""} | stages


def run(tmp_path, drafted):
    record = RunRecord(
        lesson="one_model",
        parameters={"model": "resnet18"},
        device="cpu",
        device_name="a CPU",
        mode="drafted",
        metrics={"sqnr_to_fp32_db": 30.0},
        evidence={
            "counts": {"conv": {"in the model": 2, "quantized": 2, "drafted": 1 + drafted}},
            "layers": [layer("first", True), layer("second", drafted)],
        },
        seconds=1,
    )
    path = tmp_path / "one.ipynb"
    return Result(path, "one_model", {"model": "resnet18"}, "passed", "", 1.0, record, "One")


def test_kept_runs_are_read_back_with_their_gaps(tmp_path):
    [kept] = read_runs(keep_runs([run(tmp_path, False)], tmp_path / "kept.jsonl"))
    assert kept.outcome == "drafted"
    assert kept.record.metrics == {"sqnr_to_fp32_db": 30.0}
    assert kept.record.int8_kernels("drafted") == "1 of 2 conv"
    assert [gap["name"] for gap in kept.record.evidence["layers"]] == ["second"]


def test_kept_runs_of_two_versions_are_compared(tmp_path):
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    keep_runs([run(tmp_path, True)], before)
    keep_runs([run(tmp_path, False)], after)
    worse = CliRunner().invoke(app, ["compare", str(before), str(after)])
    assert worse.exit_code == 1
    assert "int8 calls drafted" in worse.output
    better = CliRunner().invoke(app, ["compare", str(after), str(before)])
    assert better.exit_code == 0, better.output


@pytest.mark.parametrize("text", ["", "{", json.dumps({"path": "x"})])
def test_a_file_that_holds_no_runs_is_an_error_with_its_name(tmp_path, text):
    path = tmp_path / "kept.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"kept\.jsonl"):
        read_runs(path)
