import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import alive, no_torch_in_it, wait_until, write_lesson, write_notebook
from torch import nn
from typer.testing import CliRunner

from xpuqlib.classroom import caches
from xpuqlib.cli import app, main
from xpuqlib.errors import ModelError, XpuqError
from xpuqlib.machine.environment import current_track
from xpuqlib.material import models

RUNNER = CliRunner()
XPUQ = [sys.executable, "-m", "xpuqlib"]


def xpuq(*arguments, **kwargs):
    return subprocess.run([*XPUQ, *map(str, arguments)], capture_output=True, text=True, **kwargs)


def write(path, *sources):
    return write_notebook(path, 'device: str = "auto"', *sources)


@no_torch_in_it("current")
@pytest.mark.slow
def test_run_goes_on_after_a_failure_and_tells_of_it(tmp_path):
    bad = write(tmp_path / "bad.ipynb", "x = 1", "raise ValueError('no such [/layer]')")
    good = write(tmp_path / "good.ipynb", "print(device)")
    run = xpuq("run", bad, good, "--device", "cpu", "--out", tmp_path / "out", env=wide())
    assert run.returncode == 1
    assert "failed in cell [4] of the executed notebook: ValueError: no such [/layer]" in run.stdout
    assert "1 of 2 notebooks passed" in run.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "index.html",
        "results.csv",
        "results.parquet",
        "bad.ipynb",
        "bad.html",
        "good.ipynb",
        "good.html",
    }
    assert "cpu" in (tmp_path / "out" / "good.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_help_says_that_code_which_is_named_is_executed(command):
    options = typer.main.get_command(app).commands[command].params
    [assignments] = [option for option in options if "-p" in option.opts]
    assert "FILE.py:NAME is executed" in assignments.help


@no_torch_in_it("current")
@pytest.mark.slow
def test_run_passes(tmp_path):
    good = write(tmp_path / "good.ipynb", "1")
    run = xpuq("run", good, "--out", tmp_path / "out")
    assert run.returncode == 0
    assert "WARNING" not in run.stderr


@pytest.fixture
def refused(monkeypatch, capfd):
    """Call xpuq in this process: what it says on stderr, and that it ends as for wrong input."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["xpuq", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        assert (end.value.code, said.out) == (2, "")
        return said.err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["03", "-p", "bach_size=8"], "has no parameter 'bach_size'"),
        (["03", "-p", "batch_size=many"], "valid integer"),
        (["03", "-p", "batch_size"], "not NAME=VALUE"),
        (["03", "--device", "gpu"], "device=gpu is not possible"),
        (["03", "--device", "cpu", "-p", "device=cpu"], "given twice"),
        (["[/x]"], "'[/x]' matches 0 notebooks"),
        (["99"], "'99' matches 0 notebooks"),
        (["-p", "model=resnet18"], "00_check_your_machine.ipynb has no parameter 'model'"),
    ],
)
def test_wrong_input_is_an_error_before_any_kernel(arguments, message, tmp_path, refused):
    said = refused("run", *arguments, "--out", tmp_path / "out")
    assert message in said
    assert "Fix: " in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name models, or a file to --check"),
        (["resnet18", "--check", "x.py"], "Name models, or a file to --check"),
        (["resnet18", "-p", "pixels=3"], "pixels is not possible"),
    ],
)
def test_draft_refuses_what_it_cannot_do(arguments, message, refused):
    assert message in refused("draft", *arguments)


@pytest.mark.slow
def test_a_model_that_cannot_be_drafted_does_not_stop_the_others(tmp_path):
    run = xpuq("draft", "resnt18", "squeezenet1_1", "-p", "image_size=64", "--out", tmp_path)
    assert run.returncode == 1
    assert "There is no model 'resnt18'" in run.stdout
    assert "26 of 26" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["squeezenet1_1-image_size=64.py"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("README.md", "# A heading", "does not end in .ipynb"),
        ("list.json", "[1]", "does not end in .ipynb"),
        ("gone.ipynb", None, "matches 0 notebooks"),
        ("folder", ..., "matches 0 notebooks"),
        ("text.ipynb", "hello", "cannot be read as a notebook"),
        ("other.ipynb", '{"a": 1}', "cannot be read as a notebook"),
    ],
)
def test_the_error_of_what_is_no_notebook_stands_alone(tmp_path, name, content, message, refused):
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    cause, fix = refused("run", path, "--out", tmp_path / "out").splitlines()
    assert cause.startswith("xpuq: ")
    assert message in cause
    assert fix.startswith("  Fix: ")


def test_a_process_ends_with_the_error_alone(tmp_path):
    run = xpuq("run", tmp_path / "gone.ipynb")
    assert (run.returncode, run.stdout) == (2, "")
    assert [line[:6] for line in run.stderr.splitlines()] == ["xpuq: ", "  Fix:"]


def test_doctor_speaks_json_and_table():
    run = xpuq("doctor", "--json")
    assert run.returncode == 0
    assert {"name", "status", "found", "fix"} == set(json.loads(run.stdout)[0])
    table = xpuq("doctor", env=wide())
    assert table.returncode == 0
    assert "C++ compiler" in table.stdout


@no_torch_in_it("current")
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_the_kernel_and_keeps_what_was_finished(tmp_path):
    first = write(tmp_path / "first.ipynb", "print('done')")
    pid_file = tmp_path / "pid"
    wait = write(
        tmp_path / "wait.ipynb",
        f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)",
    )
    last = write(tmp_path / "last.ipynb", "1")
    out = tmp_path / "out"
    run = subprocess.Popen(
        [*XPUQ, "run", *map(str, (first, wait, last)), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=wide(),
        # A suite started in the background of a script would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), 60)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    wait_until(lambda: not alive(int(pid_file.read_text())), 10)
    assert "interrupted" in stdout
    assert "1 of 3 notebooks passed" in stdout
    assert "Traceback" not in stderr
    assert "done" in (out / "first.html").read_text(encoding="utf-8")
    assert (out / "index.html").exists()
    assert not (out / "last.ipynb").exists()


def wide():
    return os.environ | {"COLUMNS": "200"}


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder with one lesson, and a wrong answer to its exercise."""
    lesson = write_lesson(tmp_path / "notebooks" / "01_a.ipynb")
    kept = lesson.parent / "wrong_answers" / "01_a.yml"
    kept.parent.mkdir()
    kept.write_text("steps: [{answer: 'steps = 256', hint: There are 255 steps}]")
    (tmp_path / "text").write_text("no JSON")
    monkeypatch.chdir(tmp_path)
    return lesson


def test_classroom_makes_a_course(workshop):
    result = RUNNER.invoke(app, ["classroom", "course", "--lessons", "01"])
    assert result.exit_code == 0, result.output
    assert Path("course/source/01_a/01_a.ipynb").exists()
    assert "INSTRUCTOR.md" in result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "No folder is named"),
        (["notebooks"], "not empty"),
        (["course", "--lessons", "01,07"], "'07' matches 0 notebooks"),
        (["course", "--lessons", "text"], "text is no notebook"),
    ],
)
def test_classroom_names_what_is_wrong(workshop, arguments, error):
    result = RUNNER.invoke(app, ["classroom", *arguments])
    assert isinstance(result.exception, XpuqError)
    assert error in str(result.exception)
    assert not Path("course").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("right", "code"), [(True, 0), (False, 1)])
@pytest.mark.skipif(
    current_track().name != "current", reason="courses are graded on the current track"
)
def test_classroom_check_says_whether_it_grades(workshop, right, code):
    if not right:
        write_lesson(workshop, expected=256)
    result = RUNNER.invoke(app, ["classroom", "--check"])
    assert result.exit_code == code, result.output
    assert f"{3 if right else 1} of 3 are graded as they must be." in result.output


def test_prefetch_compares_with_its_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_train_on_digits", lambda name: nn.Linear(2, 2))
    monkeypatch.setattr(caches, "load_model", lambda name, source: models.digits_weights(name))
    result = RUNNER.invoke(app, ["prefetch", "--model", "resnet18"])
    assert result.exit_code == 0, result.output
    assert "manifest.json" in result.output
    assert RUNNER.invoke(app, ["prefetch", "--check"]).exit_code == 0
    next((tmp_path / "weights").glob("*.pt")).unlink()
    result = RUNNER.invoke(app, ["prefetch", "--check"])
    assert result.exit_code == 1
    assert "Gone or damaged: weights/resnet18" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet19"], "Use resnet18"),
        (["--weights", "coco"], "Unknown: coco.\n  Fix: Use digits, imagenet."),
    ],
)
def test_prefetch_names_the_choices(arguments, message):
    result = RUNNER.invoke(app, ["prefetch", *arguments])
    assert isinstance(result.exception, ModelError)
    assert message in str(result.exception)
