"""The libraries that `make benchmark` compares with, where they are installed."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
def test_peers_are_compared_on_the_same_weights_and_batches(monkeypatch, capsys, tmp_path):
    for name in ("openvino", "nncf", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason='pip install -e ".[peers]"')
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    from speed import side_by_side

    side_by_side("resnet18", 1, 32, 1, 0.02, tmp_path)
    said = capsys.readouterr().out
    assert said.count("20 of 20") == 4
    for name in ("OpenVINO", "ONNX Runtime"):
        assert f"times the time of {name}" in said
    [alone] = [line for line in said.splitlines() if line.startswith("Alone in a process")]
    assert "xpuqlib, package" in alone
    assert "OpenVINO" in alone
