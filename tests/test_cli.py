import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import alive, wait_until, write_notebook

XPUQ = [sys.executable, "-m", "xpuqlib"]


def xpuq(*arguments, **kwargs):
    return subprocess.run([*XPUQ, *map(str, arguments)], capture_output=True, text=True, **kwargs)


def write(path, *sources):
    return write_notebook(path, 'device: str = "auto"', *sources)


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


def test_run_passes(tmp_path):
    good = write(tmp_path / "good.ipynb", "1")
    run = xpuq("run", good, "--out", tmp_path / "out")
    assert run.returncode == 0
    assert "WARNING" not in run.stderr


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
def test_wrong_input_is_an_error_before_any_kernel(arguments, message, tmp_path):
    run = xpuq("run", *arguments, "--out", tmp_path / "out")
    assert run.returncode == 2
    assert message in run.stderr
    assert "Mend: " in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()


def test_doctor_speaks_json_and_table():
    run = xpuq("doctor", "--json")
    assert run.returncode == 0
    assert {"name", "status", "found", "mend"} == set(json.loads(run.stdout)[0])
    table = xpuq("doctor", env=wide())
    assert table.returncode == 0
    assert "C++ compiler" in table.stdout


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
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=wide(),
        # A suite started in the background of a script would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
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
