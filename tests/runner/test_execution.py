import pytest
from conftest import RECORD, write_notebook

from xpuqlib.errors import ParameterError, RunError, TrackError
from xpuqlib.runner.execution import Job, execute, find_notebooks, plan


def write(path, *sources):
    return write_notebook(path, "n: int = 1", *sources)


def test_a_run_keeps_notebook_page_and_record(tmp_path):
    path = write(tmp_path / "a.ipynb", "print('n is', n)", RECORD)
    result = execute(Job(path, {"n": 5}), tmp_path / "out")
    assert (result.result, result.outcome, result.record.mode) == ("passed", *2 * ("rehearsed",))
    assert "n is 5" in result.path.read_text(encoding="utf-8")
    assert "n is 5" in result.page.read_text(encoding="utf-8")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.ipynb", "a.html"}


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "in cell [3] of the executed notebook: ZeroDivisionError: division by zero"),
        ("import os; os._exit(1)", "the kernel died"),
    ],
)
def test_a_failure_is_a_result_and_everything_before_it_is_kept(tmp_path, source, error):
    path = write(tmp_path / "a.ipynb", "print('before')", source, "print('not reached')")
    result = execute(Job(path, {"n": 2}), tmp_path / "out")
    assert (result.result, result.outcome, result.record) == ("failed", "failed", None)
    assert error.replace("[3]", "[4]") in result.error
    assert "before" in result.page.read_text(encoding="utf-8")


def test_nothing_starts_when_one_parameter_is_wrong(tmp_path):
    paths = [write(tmp_path / "a.ipynb"), write(tmp_path / "b.ipynb")]
    with pytest.raises(ParameterError, match=r"a\.ipynb has no parameter 'm'"):
        plan(paths, {"n": "1"}, {"m": "1"})
    planned = plan(paths, {"n": "3"}, {"n": 4})
    assert [(job.notebook.stem, job.parameters["n"]) for job in planned] == [
        ("a", 3),
        ("a", 4),
        ("b", 3),
        ("b", 4),
    ]


def test_a_task_leaves_old_outputs_behind(tmp_path):
    path = write(tmp_path / "a.ipynb", "print('old', n)")
    done = execute(Job(path, {}), tmp_path / "out")
    task = Job(done.path, {"n": 2}).task()
    assert (task.name, task.lesson, task.parameters) == ("a", "a", {"n": 2})
    assert "old 1" not in task.notebook
    assert "old" in task.notebook


def test_an_unwritable_folder_is_a_clear_error(tmp_path):
    path = write(tmp_path / "a.ipynb")
    (tmp_path / "out").write_text("a file stands where the folder should be")
    with pytest.raises(RunError, match=r"cannot be written(?s:.*)--out"):
        execute(Job(path, {}), tmp_path / "out")


def test_notebooks_are_found_by_path_and_by_start(tmp_path):
    first, second = write(tmp_path / "00_a.ipynb"), write(tmp_path / "01_b.ipynb")
    assert find_notebooks([], tmp_path) == [first, second]
    assert find_notebooks(["01"], tmp_path) == [second]
    assert find_notebooks([str(first)], tmp_path) == [first]
    with pytest.raises(RunError, match=r"'0' matches 2 notebooks(?s:.*)00_a, 01_b"):
        find_notebooks(["0"], tmp_path)
    with pytest.raises(RunError, match="matches 0"):
        find_notebooks(["02"], tmp_path)
    with pytest.raises(RunError, match="named twice"):
        find_notebooks(["00", str(first)], tmp_path)
    with pytest.raises(RunError, match="no notebooks"):
        find_notebooks([], tmp_path / "elsewhere")


def test_a_notebook_is_not_overwritten_by_its_result(tmp_path):
    path = write(tmp_path / "a.ipynb", "1")
    before = path.read_bytes()
    with pytest.raises(RunError, match="would be overwritten"):
        execute(Job(path, {}), tmp_path)
    assert path.read_bytes() == before


def test_a_mismatched_ipex_stops_the_plan(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ipynb", "1")
    monkeypatch.setattr("xpuqlib.runner.execution.ipex_mismatch", lambda: "IPEX 1 needs torch 1")
    with pytest.raises(TrackError, match="IPEX 1 needs torch 1"):
        plan([path], {})


OWN = """
import torch
from torch import nn

def classifier():
    return nn.Linear(3, 2).eval()

def batches():
    return [torch.full((4, 3), float(n)) for n in range(3)]
"""


@pytest.mark.slow
def test_a_kernel_executes_the_code_that_a_person_names(tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path / "code")
    parameters = 'model: str = "resnet18"\nweights: str = "auto"\ndata: str = "digits"'
    loaded = """
import os; os.chdir("/")
from xpuqlib.material import check_model, load_batches, load_model
batches = load_batches(data, calibration_batches=2)
check_model(load_model(model, weights), batches)
print("evaluated on", batches.evaluation[0][0][0, 0].item())
"""
    path = write_notebook(tmp_path / "09_a.ipynb", parameters, loaded)
    [job] = plan([path], {"model": "mine.py:classifier", "data": "mine.py:batches"})
    result = execute(job, tmp_path / "out")
    assert result.result == "passed", result.error
    assert "evaluated on 2.0" in result.path.read_text(encoding="utf-8")
