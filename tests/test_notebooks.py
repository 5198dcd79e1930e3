"""The lessons: their conventions, and what their executions through papermill show."""

import ast
import getpass
import json
import re
import socket

import nbformat
import pandas
import pytest
import yaml
from conftest import large_on
from trial import (
    LESSONS,
    OPPOSITE,
    ROOT,
    SMALL,
    TRIAL,
    check_noise,
    claims_of,
    code_cells,
    each_lesson,
    opposite,
    record_of,
    xpuq_run,
)

from xpuqlib.machine.environment import IPEX, installed_version
from xpuqlib.proof.record import MIME_TYPE, read_record
from xpuqlib.runner.parameters import LessonParameters, check_parameters, notebook_parameters
from xpuqlib.show.states import STATES_MIME_TYPE

COMPARED = "nbval-check-output"  # nbval's own tag
PICTURES = ("image/", STATES_MIME_TYPE)
OWN_DEFAULTS = {
    ("09", "model"): "resnet18_rescaled",
    ("09", "weights"): "auto",
    ("11", "model"): "vit",
    ("11", "weights"): "auto",
}


def texts(cell):
    """Return what a cell shows as plain text, in one piece: a kernel may send a print in two."""
    outputs = cell.outputs
    shown = [o.text if o.output_type == "stream" else o.data["text/plain"] for o in outputs]
    return "".join(shown)


def test_there_are_lessons():
    assert [path.name[:2] for path in LESSONS] == [f"{number:02}" for number in range(13)]


@each_lesson
def test_parameters_agree_with_the_schema(lesson):
    for name, parameter in notebook_parameters(lesson).items():
        field = LessonParameters.model_fields[name]  # a parameter that is not there is a KeyError
        default = parameter["default"].strip("\"'")
        assert default == OWN_DEFAULTS.get((lesson.stem[:2], name), str(field.default))
        assert parameter["inferred_type_name"] in ("str", "int", "float", "bool")
        assert parameter["help"]
        check_parameters(lesson, {name: default})


@each_lesson
def test_committed_as_executed_from_top_to_bottom(lesson):
    counts = [cell.execution_count for cell in code_cells(lesson) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert lesson.stat().st_size < 400_000


@each_lesson
def test_outputs_hold_no_errors_warnings_paths_or_names(lesson):
    for cell in code_cells(lesson):
        for output in cell.outputs:
            assert output.output_type != "error"
            text = json.dumps({k: v for k, v in output.items() if k != "data"}) + json.dumps(
                {k: v for k, v in output.get("data", {}).items() if not k.startswith(PICTURES)}
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
def test_committed_explorers_are_plain_figures(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    assert "widgets" not in notebook.metadata
    shown = [o.data for cell in code_cells(lesson) for o in cell.outputs if "data" in o]
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    explorers = [
        c for c in code_cells(lesson) if re.match(r"explore_|browse_|compare_recipes", c.source)
    ]
    assert all("image/png" in cell.outputs[0].data for cell in explorers)


@each_lesson
def test_a_lesson_checks_itself_and_ends_with_its_record(lesson):
    assert any(COMPARED in cell.metadata.get("tags", []) for cell in code_cells(lesson))
    last = code_cells(lesson)[-1]
    assert any(MIME_TYPE in output.get("data", {}) for output in last.outputs)
    record = read_record(lesson)
    assert record.lesson == lesson.stem
    assert set(record.parameters) == set(notebook_parameters(lesson))
    by_hand = lesson.name.startswith("01")  # no int8 kernel runs in it
    assert (record.device, record.mode) == ("cpu", "reference" if by_hand else "rehearsed")


@each_lesson
def test_compared_cells_show_what_was_committed(lesson, trials):
    """The same on every device and on both tracks; `make nbval` compares with nbval itself."""
    executed, compared = code_cells(trials(lesson)), 0
    executed = [c for c in executed if "injected-parameters" not in c.metadata.get("tags", [])]
    for ours, theirs in zip(executed, code_cells(lesson), strict=True):
        if COMPARED in theirs.metadata.get("tags", []):
            assert ours.source == theirs.source
            assert texts(ours) == texts(theirs)
            compared += 1
    assert compared


@each_lesson
def test_a_lesson_runs_with_its_defaults_without_noise(lesson, trials):
    check_noise(trials(lesson))
    record = record_of(trials(lesson))
    assert record.versions["torch"] == installed_version("torch")
    counts = record.evidence.get("counts", {})
    floating = sum(stages["in the model"] - stages["quantized"] for stages in counts.values())
    assert floating == record.metrics.get("layers_in_floating_point", 0)


@each_lesson
def test_a_lesson_frames_itself(lesson):
    guide = yaml.safe_load((ROOT / "xpuqlib/classroom/guide.yml").read_text(encoding="utf-8"))
    notebook = nbformat.read(lesson, as_version=4)
    first, *_ = notebook.cells
    text = "\n".join(cell.source for cell in notebook.cells)
    assert f"**Minutes**: {guide[lesson.stem]['minutes']}, with its exercises" in first.source
    assert "**Before it**: " in first.source
    assert "**You need**: " in first.source
    assert "After this lesson you can" in first.source
    assert re.search(r"^draw_way\(", text, re.M)
    headings = re.findall(r"^#+ (What you have seen|Next|References)$", text, re.M)
    assert headings == ["What you have seen", "Next", "References"]
    [recap] = [cell for cell in code_cells(lesson) if cell.source == "claims"]
    assert "what you have seen" in recap.outputs[0].data["text/html"]
    after = [path for path in LESSONS if path > lesson]
    assert not after or f"]({after[0].name})" in text


@each_lesson
def test_a_claim_compares_what_was_measured(lesson):
    made = [arguments for cell in code_cells(lesson) for arguments in claims_of(cell.source)]
    assert len(made) >= 6
    for _, holds, _ in made:
        compared = [node for node in ast.walk(holds) if isinstance(node, ast.Compare)]
        assert compared, ast.unparse(holds)
        for node in compared:
            names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
            assert names, f"{ast.unparse(holds)} compares constants"


@each_lesson
def test_every_claim_holds_with_the_defaults_and_its_opposite_does_not(lesson, trials):
    record = record_of(trials(lesson))
    failed = [claim.text for claim in record.claims if not claim.holds]
    # On a GPU some do not hold, and say so: no int8 kernel runs on cuda, IPEX's differ on xpu.
    assert record.device != "cpu" or failed == []
    cells = nbformat.read(trials(lesson), as_version=4).cells
    tried = [cell for cell in cells if cell.metadata.get(TRIAL, [""])[0] == OPPOSITE]
    pairs = [pair for c in tried for pair in ast.literal_eval(c.outputs[-1].data["text/plain"])]
    assert {text for text, _ in pairs} == {claim.text for claim in record.claims}
    assert [text for text, holds in pairs if holds and text not in failed] == []


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("ratio > 5", "5 > ratio"),
        ("low <= x < high", "high < x < low"),
        ("count == 20 and all(v >= 0 for v in d)", "count != 20 and all((0 > v for v in d))"),
    ],
)
def test_the_opposite_of_a_claim(claim, expected):
    assert opposite(claim) == expected


def test_the_default_configuration_costs_no_accuracy_and_every_layer_is_int8(trials):
    record = record_of(trials(next(path for path in LESSONS if path.name.startswith("03"))))
    metrics, counts = record.metrics, record.evidence["counts"]
    saturating = any("VNNI" in note for note in record.evidence["notes"])  # 16-bit sums cost more
    assert metrics["top1_fp32"] - metrics["top1_quantized"] <= (0.05 if saturating else 0.01)
    if record.mode != "reference":
        assert counts["conv"] == dict.fromkeys(counts["conv"], 20)
        assert counts["linear"] == dict.fromkeys(counts["linear"], 1)


def test_the_results_of_all_lessons_are_one_table(trials):
    records = {lesson.stem: record_of(trials(lesson)) for lesson in LESSONS}
    table = pandas.read_csv(trials.out / "results.csv").sort_values("lesson")
    assert list(table["lesson"]) == list(records)
    assert list(table["outcome"]) == [record.mode for record in records.values()]
    assert (trials.out / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "parameters"),
    [
        pytest.param("02", SMALL, marks=large_on("ipex")),
        pytest.param("03", SMALL | {"model": "squeezenet1_1"}, marks=large_on("current")),
        pytest.param("04", SMALL, marks=large_on("ipex")),
        pytest.param("05", SMALL, marks=large_on("ipex")),
        pytest.param(
            "06",
            SMALL | {"model": "mobilenet_v2", "calibration_batches": 4},
            marks=large_on("ipex"),
        ),
        pytest.param("07", SMALL, marks=large_on("ipex")),
        pytest.param(
            "08", SMALL | {"configuration": "symmetric", "seed": 1}, marks=large_on("ipex")
        ),
    ],
)
def test_a_lesson_with_other_parameters(tmp_path, number, parameters):
    [lesson] = [path for path in LESSONS if path.name.startswith(number)]
    known = notebook_parameters(lesson)
    chosen = {name: value for name, value in parameters.items() if name in known}
    xpuq_run(tmp_path, lesson, *(f"-p{name}={value}" for name, value in chosen.items()))
    record = record_of(tmp_path / lesson.name)
    assert chosen.items() <= record.parameters.items()
    assert record.evidence["counts"]["conv"]["quantized"] > 0
    assert " of " in record.int8_kernels()
    check_noise(tmp_path / lesson.name)


def modes(out, device):
    """Give the mode of each lesson by its number, as it was executed on a device."""
    xpuq_run(out, "--device", device)
    return {lesson.stem[:2]: record_of(out / lesson.name).mode for lesson in LESSONS}


@pytest.mark.cuda
def test_lessons_on_cuda_are_a_reference(tmp_path):
    # Eager mode and packages have no int8 kernels there, exhibits are the CPU's: these run on it.
    on_cpu = dict.fromkeys(("06", "07", "10", "12"), "rehearsed")
    assert modes(tmp_path, "cuda") == {path.stem[:2]: "reference" for path in LESSONS} | on_cpu


@pytest.mark.xpu
def test_lessons_on_xpu_are_executed(tmp_path):
    eager = "executed" if installed_version(IPEX) else "rehearsed"
    others = {"01": "reference", "06": eager, "07": eager, "12": "rehearsed"}
    assert modes(tmp_path, "xpu") == {path.stem[:2]: "executed" for path in LESSONS} | others
