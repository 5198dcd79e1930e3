import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import RECORD, alive, wait_until, write_notebook
from distributed import Client

from xpuqlib.errors import ParameterError, RunError, TrackError
from xpuqlib.machine.environment import versions
from xpuqlib.runner import naming, sweep
from xpuqlib.runner.results import read_results

pytestmark = pytest.mark.slow

PARAMETERS = 'n: int = 1\nlog: str = ""  # file that gets a line for each run'
NOTE = "import os, time; open(log, 'a').write(f'{n} {os.getpid()}\\n') if log else None"


def noted(log):
    """Return the runs that started: value of n, and the kernel's process."""
    if not log.exists():
        return []
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]


def start(notebook, log, out, *arguments, values="1,2,3,4"):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "xpuqlib",
            "sweep",
            str(notebook),
            f"-plog={log}",
            f"-pn={values}",
            "--out",
            str(out),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def whole(out):
    return [path.name for path in out.iterdir() if path.name.endswith("partial")] == []


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


class Cluster:
    """A scheduler and workers of Dask on loopback, each a process of its own."""

    def __init__(self, folder):
        self.folder, self.processes, self.workers = folder, [], 0
        address = folder / "scheduler.json"
        self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", address)
        wait_until(lambda: address.exists() and address.read_text().endswith("}"), 120)
        self.address = json.loads(address.read_text())["address"]

    def worker(self, *arguments):
        process = self._start(
            "worker",
            self.address,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--local-directory",
            self.folder,
            *arguments,
        )
        self.workers += 1
        with Client(self.address, timeout=60) as client:
            client.wait_for_workers(self.workers, timeout=120)  # slow on a busy machine
        return process

    def _start(self, kind, *arguments):
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", kind, "--host", "127.0.0.1", *map(str, arguments)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                kill_all(process)
            process.wait()


def kill_all(process):
    os.killpg(process.pid, signal.SIGKILL)  # the nanny, too: it would start another worker


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "dask"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.close()


dask = pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to kill")


@dask
def test_dask_gives_the_same_and_survives_a_worker(cluster, tmp_path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    waits = f"while n == 2 and not os.path.exists({str(gate)!r}): time.sleep(0.1)"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, waits, RECORD)
    victim = cluster.worker("--resources", "XPU=1")
    out = tmp_path / "out"
    run = start(notebook, log, out, "--scheduler", cluster.address, "--resources", "XPU=1")
    wait_until(lambda: 2 in dict(noted(log)), 90)  # the only worker executes it
    cluster.worker("--resources", "XPU=1")
    kill_all(victim)
    gate.touch()
    stdout, stderr = run.communicate(timeout=180)
    assert run.returncode == 0, stdout + stderr
    assert [n for n, _ in noted(log)].count(2) == 2  # once more, elsewhere
    wait_until(lambda: not any(alive(pid) for _, pid in noted(log)), 20)
    here = sweep(notebook, {"n": [1, 2, 3, 4]}, tmp_path / "here")
    there = {result.parameters["n"]: result.record.metrics for result in read_results(out)}
    assert there == {result.parameters["n"]: result.record.metrics for result in here}
    assert whole(out)


@dask
def test_dask_ctrl_c_ends_the_kernels_of_the_workers(cluster, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE, "time.sleep(600)")
    cluster.worker()
    run = start(notebook, log, out, "--scheduler", cluster.address)
    wait_until(lambda: noted(log), 90)
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not alive(noted(log)[0][1]), 10)


@dask
def test_dask_without_what_it_needs_is_an_error_at_once(cluster, tmp_path, monkeypatch):
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE)

    def refused(scheduler, message, **kwargs):
        with pytest.raises((RunError, TrackError), match=message):
            sweep(notebook, {"n": [1]}, tmp_path / "out", scheduler=scheduler, **kwargs)

    refused("tcp://127.0.0.1:1", "No Dask scheduler answers")
    refused("nowhere", "No Dask scheduler answers")
    cluster.worker()
    refused(cluster.address, r"No worker has the resources XPU=1", resources={"XPU": 1})
    monkeypatch.setattr(naming, "versions", lambda: versions() | {"torch": "0"})
    refused(cluster.address, "Install the same versions")


@dask
def test_a_scheduler_without_workers_is_an_error(cluster, tmp_path):
    notebook = write_notebook(tmp_path / "a.ipynb", PARAMETERS, NOTE)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"has no worker(?s:.*)dask worker"):
        sweep(notebook, {"n": [1]}, tmp_path / "out", scheduler=cluster.address)
    assert time.monotonic() - began < 90
