"""The lessons: their conventions, and their execution through papermill."""

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas
import pytest

from xpuqlib.machine.environment import IPEX, installed_version
from xpuqlib.proof.record import MIME_TYPE, read_record
from xpuqlib.runner.parameters import LessonParameters, check_parameters, notebook_parameters

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_lessons():
    assert [path.name[:2] for path in LESSONS] == [f"{number:02}" for number in range(9)]


@each_lesson
def test_parameters_agree_with_the_schema(path):
    for name, parameter in notebook_parameters(path).items():
        field = LessonParameters.model_fields[name]  # a parameter that is not there is a KeyError
        assert parameter["default"].strip("\"'") == str(field.default)
        assert parameter["inferred_type_name"] in ("str", "int")
        assert parameter["help"]
        check_parameters(path, {name: field.default})


@each_lesson
def test_committed_as_executed_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in cells(path) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert path.stat().st_size < 400_000


@each_lesson
def test_outputs_hold_no_errors_warnings_paths_or_names(path):
    for cell in cells(path):
        for output in cell.outputs:
            assert output.output_type != "error"
            text = json.dumps({k: v for k, v in output.items() if k != "data"}) + json.dumps(
                {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            )
            assert output.get("name") != "stderr", text
            assert not re.search(
                r"(?<![\w.])/(home|root|work|tmp|usr|Users|opt)/|[A-Z]:\\\\", text
            ), text
            assert "Warning" not in text
            assert not re.search(r"0x[0-9a-f]{6,}", text), text
            assert text.count("\\r") == 0, text
            for name in {socket.gethostname(), getpass.getuser()} - {"root"}:
                assert name not in text


@each_lesson
def test_committed_explorers_are_plain_figures(path):
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    shown = [o.data for cell in cells(path) for o in cell.outputs if "data" in o]
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    explorers = [c for c in cells(path) if re.match(r"explore_|browse_|compare_recipes", c.source)]
    assert all("image/png" in cell.outputs[0].data for cell in explorers)


@each_lesson
def test_a_lesson_checks_itself_and_ends_with_its_record(path):
    assert any("NBVAL_CHECK_OUTPUT" in cell.source for cell in cells(path))
    last = cells(path)[-1]
    assert any(MIME_TYPE in output.get("data", {}) for output in last.outputs)
    record = read_record(path)
    assert record.lesson == path.stem
    assert set(record.parameters) == set(notebook_parameters(path))
    assert (record.device, record.mode) == ("cpu", "rehearsed")


def run(out, *arguments):
    child = subprocess.run(
        [sys.executable, "-m", "xpuqlib", "run", *arguments, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert child.returncode == 0, child.stdout + child.stderr
    return {path.stem: read_record(path) for path in out.glob("*.ipynb")}


def check_noise(out):
    for path in out.glob("*.ipynb"):
        for cell in cells(path):
            assert not [o.text for o in cell.outputs if o.get("name") == "stderr"], path


def test_all_lessons_with_their_defaults(tmp_path):
    records = run(tmp_path)
    assert len(records) == len(LESSONS)
    outcomes = pandas.read_csv(tmp_path / "results.csv")["outcome"]
    assert list(outcomes) == [record.mode for _, record in sorted(records.items())]
    check_noise(tmp_path)
    record = records["03_pt2e_default_configuration"]
    assert record.versions["torch"] == installed_version("torch")
    metrics, counts = record.metrics, record.evidence["counts"]
    saturating = any("VNNI" in note for note in record.evidence["notes"])  # 16-bit sums cost more
    assert metrics["top1_fp32"] - metrics["top1_quantized"] <= (0.05 if saturating else 0.01)
    if record.mode != "reference":
        assert counts["conv"] == dict.fromkeys(counts["conv"], 20)
        assert counts["linear"] == dict.fromkeys(counts["linear"], 1)


@pytest.mark.parametrize(
    ("lessons", "parameters"),
    [
        (("02", "03", "06"), {"model": "mobilenet_v2", "batch_size": 8}),
        (
            ("04", "05", "07", "08"),
            {
                "weights": "random",
                "data": "synthetic",
                "image_size": 64,
                "batch_size": 4,
                "configuration": "symmetric",
            },
        ),
    ],
    ids=["mobilenet_v2", "random weights on synthetic images"],
)
def test_lessons_with_other_parameters(tmp_path, lessons, parameters):
    for lesson in lessons:
        known = notebook_parameters(next(p for p in LESSONS if p.name.startswith(lesson)))
        chosen = {name: value for name, value in parameters.items() if name in known}
        records = run(tmp_path, lesson, *(f"-p{name}={value}" for name, value in chosen.items()))
        [record] = [r for name, r in records.items() if name.startswith(lesson)]
        assert chosen.items() <= record.parameters.items()
        assert record.evidence["counts"]["conv"]["quantized"] > 0
        assert " of " in record.int8_kernels()
    check_noise(tmp_path)


def modes(records, ipex):
    return {record.mode for name, record in records.items() if ("ipex" in name) == ipex}


@pytest.mark.cuda
def test_lessons_on_cuda_are_a_reference(tmp_path):
    records = run(tmp_path, "--device", "cuda")
    assert modes(records, ipex=False) == {"reference"}
    assert modes(records, ipex=True) == {"rehearsed"}  # no quantized kernels: on the CPU


@pytest.mark.xpu
def test_lessons_on_xpu_are_executed(tmp_path):
    records = run(tmp_path, "--device", "xpu")
    assert modes(records, ipex=False) == {"executed"}
    assert modes(records, ipex=True) == {"executed" if installed_version(IPEX) else "rehearsed"}
