import os
import signal

import pytest
from conftest import RECORD, alive, no_torch_in_it, wait_until, write_notebook
from sweeping import NOTE, PARAMETERS, noted, start, whole

from xpuqlib.errors import ParameterError, RunError
from xpuqlib.runner import sweep
from xpuqlib.runner.results import read_results

pytestmark = [pytest.mark.slow, no_torch_in_it("current")]


def test_a_grid_with_two_kernels_at_a_time(tmp_path):
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, RECORD)
    results = sweep(notebook, {"n": [3, 1, 2]}, tmp_path / "out", jobs=2)
    assert [result.record.metrics["latency_quantized_s"] for result in results] == [
        0.03,
        0.01,
        0.02,
    ]
    assert [result.outcome for result in results] == ["rehearsed"] * 3
    assert sorted(read_results(tmp_path / "out"), key=lambda r: r.parameters["n"]) == sorted(
        results, key=lambda r: r.parameters["n"]
    )


def test_one_that_fails_and_one_that_dies_do_not_stop_the_others(tmp_path):
    ends = "{2: lambda: 1 / 0, 3: lambda: os.kill(os.getpid(), 9)}.get(n, int)()"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, "print('before')", NOTE, ends)
    results = sweep(notebook, {"n": [1, 2, 3, 4]}, tmp_path / "out", jobs=2)
    assert [result.result for result in results] == ["passed", "failed", "failed", "passed"]
    assert "ZeroDivisionError" in results[1].error
    assert "the kernel died" in results[2].error
    for result in results:
        assert "before" in result.page.read_text(encoding="utf-8")


def test_a_run_past_its_time_is_reported(tmp_path):
    notebook = write_notebook(
        tmp_path / "a.ipynb", PARAMETERS, NOTE, "time.sleep(600 if n == 2 else 0)"
    )
    log = tmp_path / "log"
    results = sweep(notebook, {"n": [1, 2], "log": str(log)}, tmp_path / "out", timeout=20)
    assert [result.result for result in results] == ["passed", "timed out"]
    wait_until(lambda: not any(alive(pid) for _, pid in noted(log)), 10)


def test_resume_executes_only_what_did_not_pass(tmp_path):
    flag, log = tmp_path / "fixed", tmp_path / "log"
    fails = f"assert n != 2 or os.path.exists({str(flag)!r})"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, fails)
    grid, out = {"n": [1, 2], "log": [str(log)]}, tmp_path / "out"
    assert [result.result for result in sweep(notebook, grid, out)] == ["passed", "failed"]
    with pytest.raises(RunError, match=r"holds 2 of these 2 runs(?s:.*)--resume"):
        sweep(notebook, grid, out)
    flag.touch()
    grid["n"].append(3)
    results = sweep(notebook, grid, out, resume=True)
    assert [result.result for result in results] == ["passed"] * 3
    assert [n for n, _ in noted(log)] == [1, 2, 2, 3]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killing_the_sweep_loses_no_finished_run(tmp_path, jobs):
    log, out, gate = tmp_path / "log", tmp_path / "out", tmp_path / "gate"
    waits = f"while n > 2 and not os.path.exists({str(gate)!r}): time.sleep(0.1)"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, waits)
    run = start(notebook, log, out, "--jobs", jobs)
    finished = lambda: len(list(out.glob("*.ipynb"))) == 2  # noqa: E731
    wait_until(lambda: finished() and 3 in dict(noted(log)), 90)
    run.kill()
    run.communicate()
    wait_until(lambda: not any(alive(pid) for _, pid in noted(log)), 20)
    assert {result.parameters["n"] for result in read_results(out)} == {1, 2}
    gate.touch()
    before = len(noted(log))
    again = start(notebook, log, out, "--jobs", jobs, "--resume")
    stdout, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    assert "4 of 4 runs passed" in stdout
    assert sorted(n for n, _ in noted(log)[before:]) == [3, 4]
    assert whole(out)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_no_kernel_and_keeps_what_was_finished(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, "time.sleep(n > 1 and 600)")
    run = start(notebook, log, out, "--jobs", "2", values="1,2,3,4")
    wait_until(lambda: list(out.glob("*.ipynb")) and {2, 3} <= set(dict(noted(log))), 90)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "1 of 4 runs passed" in stdout
    assert not any(alive(pid) for _, pid in noted(log))
    assert (out / "index.html").exists()
    assert whole(out)


def test_a_full_disk_ends_the_sweep_with_a_clear_error_and_no_kernel(tmp_path, monkeypatch):
    log = tmp_path / "log"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, "time.sleep(n > 1 and 600)")

    def full(path, content):
        raise RunError(f"{path} cannot be written: No space left on device", "Free space.")

    monkeypatch.setattr("xpuqlib.runner.results.write_whole", full)
    with pytest.raises(RunError, match="No space left"):
        sweep(notebook, {"n": [1, 2, 3], "log": str(log)}, tmp_path / "out", jobs=2)
    assert not any(alive(pid) for _, pid in noted(log))


def test_wrong_input_starts_nothing(tmp_path):
    notebook, out = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE), tmp_path / "out"
    with pytest.raises(ParameterError, match="has no parameter 'm'"):
        sweep(notebook, {"n": [1], "m": [1]}, out)
    with pytest.raises(ParameterError, match="valid integer"):
        sweep(notebook, {"n": [1, "x"]}, out)
    for wrong in (
        {"jobs": 0},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"resources": {"XPU": 0}},
    ):
        with pytest.raises(RunError, match="is not possible"):
            sweep(notebook, {"n": [1]}, out, **wrong)
    assert not out.exists()


def test_resume_finds_what_was_done_when_another_parameter_varies_now(tmp_path):
    log = tmp_path / "log"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS + "\nm: int = 1", NOTE)
    out, grid = tmp_path / "out", {"n": [1, 2], "log": [str(log)]}
    first = sweep(notebook, grid, out)
    assert [result.path.stem[:6] for result in first] == ["a-n=1-", "a-n=2-"]
    grid |= {"m": [1, 2]}  # 1 is its default
    results = sweep(notebook, grid, out, resume=True)
    assert [n for n, _ in noted(log)] == [1, 2, 1, 2]
    assert [result.path for result in results[::2]] == [result.path for result in first]
    assert [result.path.stem[:10] for result in results[1::2]] == ["a-n=1,m=2-", "a-n=2,m=2-"]
    assert len(list(out.glob("*.ipynb"))) == 4


def test_a_notebook_can_sweep(tmp_path):
    inner = write_notebook(tmp_path / "a.ipynb", PARAMETERS, RECORD)
    outer = write_notebook(
        tmp_path / "b.ipynb",
        "folder: str = ''",
        "from xpuqlib.runner import sweep",
        f"results = sweep({str(inner)!r}, {{'n': [1, 2]}}, folder, jobs=2)",
        "assert [result.outcome for result in results] == ['rehearsed'] * 2",
    )
    [result] = sweep(outer, {"folder": str(tmp_path / "inner")}, tmp_path / "outer")
    assert result.error == ""
    assert len(read_results(tmp_path / "inner")) == 2
