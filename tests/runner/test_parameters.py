import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_notebook

from xpuqlib.errors import ParameterError, RunError
from xpuqlib.runner.parameters import (
    LessonParameters,
    check_parameters,
    describe_parameters,
    notebook_parameters,
    split_assignments,
)

LESSON = Path(__file__).parents[2] / "notebooks" / "03_pt2e_default_configuration.ipynb"


@pytest.fixture
def notebook(tmp_path):
    """A person's own notebook, with a parameter that no lesson has."""
    parameters = "rate: float = 0.5  # learning rate\nbatch_size: int = 4"
    return write_notebook(tmp_path / "own.ipynb", parameters)


def test_texts_become_the_declared_types(notebook):
    values = {"batch_size": "8", "model": "mobilenet_v2", "data": "synthetic"}
    checked = check_parameters(LESSON, values)
    assert checked == {"batch_size": 8, "model": "mobilenet_v2", "data": "synthetic"}
    assert check_parameters(notebook, {"rate": "0.25"}) == {"rate": 0.25}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bach_size", "8", r"has no parameter 'bach_size'(?s:.*)batch_size"),
        ("batch_size", "many", "batch_size=many is not possible: .*integer"),
        ("batch_size", "0", "greater than or equal to 1"),
        ("model", "resnet19", "resnet18"),
        ("device", "gpu", "'auto', 'xpu', 'cuda' or 'cpu'"),
        ("image_size", "8", "greater than or equal to 32"),
        ("image_size", "100000", "less than or equal to 1024"),
        ("seed", str(2**70), "less than"),
        ("data", "digit", "neither digits nor synthetic nor text nor a folder"),
    ],
)
def test_wrong_values_name_what_is_possible(name, value, message):
    with pytest.raises(ParameterError, match=message):
        check_parameters(LESSON, {name: value})


def test_a_wrong_type_in_a_persons_own_notebook(notebook):
    with pytest.raises(ParameterError, match=r"rate=fast is not possible(?s:.*)learning rate"):
        check_parameters(notebook, {"rate": "fast"})


def test_an_unannotated_parameter_takes_the_type_of_its_default(tmp_path):
    write_notebook(tmp_path / "own.ipynb", "alpha = 0.5\nn = 4")
    assert check_parameters(tmp_path / "own.ipynb", {"alpha": "0.1", "n": "8"}) == {
        "alpha": 0.1,
        "n": 8,
    }
    with pytest.raises(ParameterError, match="alpha=abc"):
        check_parameters(tmp_path / "own.ipynb", {"alpha": "abc"})


def test_a_notebook_without_parameters_cell_is_refused(tmp_path):
    write_notebook(tmp_path / "bare.ipynb", None, "a = 1")
    with pytest.raises(ParameterError, match="no cell tagged 'parameters'"):
        notebook_parameters(tmp_path / "bare.ipynb")


def test_what_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "text.ipynb").write_text("hello")
    for text in ("{}", "[1]", "null", '{"nbformat": 4}'):
        (tmp_path / "other.ipynb").write_text(text)
        with pytest.raises(RunError, match="cannot be read as a notebook"):
            notebook_parameters(tmp_path / "other.ipynb")
    for name in ("text.ipynb", "missing.ipynb"):
        with pytest.raises(RunError, match="cannot be read as a notebook"):
            notebook_parameters(tmp_path / name)


def test_another_ending_is_refused_without_a_warning(notebook, recwarn):
    for name in ("own.md", "own.json", "own"):
        other = notebook.rename(notebook.with_name(name))
        with pytest.raises(RunError, match=r"does not end in \.ipynb"):
            notebook_parameters(other)
        other.rename(notebook)
    assert not recwarn


def test_assignments():
    assert split_assignments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(ParameterError, match="given twice"):
        split_assignments(["a=1", "a=2"])
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(ParameterError, match="NAME=VALUE"):
            split_assignments([wrong])


def test_every_parameter_is_described():
    table = describe_parameters().set_index("parameter")
    assert list(table.index) == list(LessonParameters.model_fields)
    assert dict(table.loc["batch_size"]) == {
        "type": "int",
        "choices": "at least 1",
        "default": 32,
        "meaning": "images in a batch",
    }
    assert table.loc["image_size", "choices"] == "32 to 1024"
    assert table.loc["device", "choices"] == "auto, xpu, cuda, cpu"
    choices = (
        "digits, synthetic, text, a folder of images by class, FILE.py:FUNCTION, MODULE:FUNCTION"
    )
    assert table.loc["data", "choices"] == choices
    assert table["meaning"].all()


def test_a_notebook_is_described_by_its_own_parameters(notebook):
    table = describe_parameters(notebook).set_index("parameter")
    assert dict(table.loc["rate"]) == {
        "type": "float",
        "choices": "",
        "default": "0.5",
        "meaning": "learning rate",
    }
    assert table.loc["batch_size", "default"] == "4"  # its own, not the lessons'
    assert list(describe_parameters(LESSON)["parameter"]) == list(notebook_parameters(LESSON))


def test_the_table_for_the_book_has_a_row_for_each_parameter():
    command = [sys.executable, "-m", "xpuqlib", "parameters", "--markdown"]
    printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert len(printed.splitlines()) == 2 + len(LessonParameters.model_fields)
    assert all(f"\n| {name} | " in printed for name in LessonParameters.model_fields)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with code, an empty program and weights, and a lesson-like notebook."""
    (tmp_path / "mine.py").write_text("raise SystemExit\ndef classifier():\n    pass")
    for name in ("model.pt2", "weights.pt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    parameters = 'model: str = "resnet18"\nweights: str = "auto"\ndata: str = "digits"'
    parameters += '\nranking: str = ""'
    return write_notebook(tmp_path / "09_a.ipynb", parameters)


def test_files_of_ones_own_become_absolute_and_nothing_is_executed(own):
    values = {"model": "mine.py:classifier", "data": "mine.py:classifier", "weights": "weights.pt"}
    here = own.parent
    factory = f"{here / 'mine.py'}:classifier"
    assert check_parameters(own, values) == {
        "model": factory,
        "data": factory,
        "weights": str(here / "weights.pt"),
    }
    assert check_parameters(own, {"model": "model.pt2"}) == {"model": str(here / "model.pt2")}
    assert check_parameters(own, {"model": "swin_t"}) == {"model": "swin_t"}  # of no lesson


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "swin_tt"}, r"no model 'swin_tt'(?s:.*)Use swin_t"),
        ({"model": "mine.py:classifer"}, r"model=mine\.py:classifer (?s:.*)It has: classifier"),
        ({"model": "other.pt2"}, r"no file 'other\.pt2'"),
        ({"weights": "other.pt"}, r"no file 'other\.pt'(?s:.*)auto, digits"),
        ({"data": "other.py:batches"}, r"data=other\.py:batches (?s:.*)no file 'other\.py'"),
        ({"data": "digit"}, "nor a folder that exists"),
        ({"model": "model.pt2", "weights": "digits"}, "weights=digits is for torchvision"),
        ({"model": "mine.py:classifier", "weights": "random"}, "-p weights=auto"),
        ({"ranking": "no/ranking.json"}, "there is no folder 'no'"),
    ],
)
def test_what_is_not_there_is_refused_before_a_kernel_starts(own, values, message):
    with pytest.raises(ParameterError, match=message):
        check_parameters(own, values)


def test_a_file_to_be_written_becomes_absolute_and_need_not_be_there(own):
    expected = str(own.parent / "ranking.json")
    assert check_parameters(own, {"ranking": "ranking.json"}) == {"ranking": expected}
    assert check_parameters(own, {"ranking": ""}) == {"ranking": ""}


def test_lesson_09_has_no_parameter_for_the_configuration(own):
    lesson = LESSON.with_name("09_your_own_model.ipynb")
    with pytest.raises(ParameterError, match=r"no parameter 'configuration'(?s:.*)It has: "):
        check_parameters(lesson, {"configuration": "symmetric"})


def test_the_weights_that_a_lesson_has_by_default_count(own):
    with pytest.raises(ParameterError, match=r"weights=digits(?s:.*)-p weights=auto"):
        check_parameters(LESSON, {"model": "model.pt2"})
    assert check_parameters(LESSON, {"model": "model.pt2", "weights": "auto"})["weights"] == "auto"
