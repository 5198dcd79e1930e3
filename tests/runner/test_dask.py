import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import RECORD, alive, no_torch_in_it, wait_until, write_notebook
from distributed import Client
from sweeping import NOTE, PARAMETERS, noted, start, whole

from xpuqlib.errors import RunError, TrackError
from xpuqlib.machine.environment import versions
from xpuqlib.runner import naming, sweep
from xpuqlib.runner.results import read_results

pytestmark = [pytest.mark.slow, no_torch_in_it("ipex")]


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
        # A client that did not connect closes itself when it is collected. While another one
        # starts, in Dask's own lock, that would wait for ever.
        gc.collect()

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
