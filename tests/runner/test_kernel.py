import json
import os
import threading
import time

import pytest
from conftest import alive, no_torch_in_it, wait_until, write_notebook

from xpuqlib.runner.execution import Job
from xpuqlib.runner.kernel import METADATA, end_kernels, finish, run_task
from xpuqlib.runner.results import store

pytestmark = [pytest.mark.slow, no_torch_in_it("current")]


def task(tmp_path, *sources, **fields):
    path = write_notebook(tmp_path / "a.ipynb", "n: int = 1", *sources)
    return Job(path, {"n": 5}).task(**fields)


def test_what_a_notebook_leaves_is_kept_beside_it(tmp_path):
    cell = """from xpuqlib.machine import results_folder
(results_folder("a") / "recipe.yml").write_text("n: 5")"""
    done = run_task(task(tmp_path, cell))
    assert done.files == {"recipe.yml": b"n: 5"}
    (tmp_path / "out").mkdir()
    result = store(done, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "recipe.yml").read_text() == "n: 5"
    assert result.path == tmp_path / "out" / "a.ipynb"


def test_what_was_executed_says_how_it_ended(tmp_path):
    done = run_task(task(tmp_path, "print('n is', n)"))
    assert (done.result, done.error) == ("passed", "")
    metadata = json.loads(done.notebook)["metadata"]
    assert metadata[METADATA].pop("seconds") == done.seconds > 0
    assert metadata[METADATA] == {
        "lesson": "a",
        "parameters": {"n": 5},
        "result": "passed",
        "error": "",
    }
    assert "n is 5" in done.notebook
    assert "n is 5" in done.page
    assert "xpuqlib-" not in done.notebook  # the temporary folder


def test_a_run_past_its_time_is_ended_with_its_kernel_and_its_children(tmp_path):
    pids = tmp_path / "pids"
    child = "import os, subprocess, time; child = subprocess.Popen(['sleep', '600'])"
    note = f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')"
    done = run_task(
        task(tmp_path, "print('before')", f"{child}; {note}; time.sleep(600)", timeout=15)
    )
    assert (done.result, done.error) == ("timed out", "ended after 15 s")
    assert 15 <= done.seconds < 90
    assert "before" in done.page
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: not alive(int(pid)), 10)


def test_a_run_within_its_time_passes(tmp_path):
    assert run_task(task(tmp_path, "1", timeout=150)).result == "passed"
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_kernels_are_ended_by_group(tmp_path):
    results = {}

    def run(group):
        ready = tmp_path / group
        source = f"open({str(ready)!r}, 'w').close(); import time; time.sleep(n * 2)"
        path = write_notebook(tmp_path / f"{group}.ipynb", "n: int = 1", source)
        results[group] = run_task(Job(path, {}).task(group=group))

    threads = [threading.Thread(target=run, args=(group,)) for group in ("one", "other")]
    for thread in threads:
        thread.start()
    wait_until(lambda: (tmp_path / "one").exists() and (tmp_path / "other").exists(), 60)
    end_kernels("one")
    for thread in threads:
        thread.join()
    assert results["one"].result == "failed"
    assert "the kernel died" in results["one"].error
    assert results["other"].result == "passed"


@pytest.mark.parametrize("share", [None, 1, 2, 10_000])
def test_kernels_that_run_together_share_the_cores(tmp_path, share, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    done = run_task(
        task(tmp_path, "import os; print('threads', os.environ['OMP_NUM_THREADS'])", share=share)
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert f"threads {max(1, cores // share) if share else 77}" in done.notebook


def test_a_notebook_that_cannot_become_a_page_is_kept(tmp_path, monkeypatch):
    def broken(node):
        raise ValueError("no template")

    monkeypatch.setattr("xpuqlib.runner.kernel._page", broken)
    todo = task(tmp_path, "1")
    done = finish(todo, todo.notebook, "passed", "", 1.0)
    assert (done.result, done.error, done.page) == ("failed", "ValueError: no template", "")
    assert json.loads(done.notebook)["metadata"][METADATA]["error"] == "ValueError: no template"


def test_a_half_written_notebook_is_replaced_by_the_one_that_was_to_run(tmp_path):
    todo = task(tmp_path, "print('to run')")
    done = finish(todo, '{"cells": [', "failed", "No space left on device", 1.0)
    assert "to run" in done.notebook
    assert done.error.startswith("No space left on device")


def test_a_race_for_ports_gets_a_second_try(tmp_path, monkeypatch):
    tries = []

    def racing(*args, **kwargs):
        tries.append(time.monotonic())
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr("papermill.execute_notebook", racing)
    done = run_task(task(tmp_path, "1"))
    assert (done.result, len(tries)) == ("failed", 2)
    assert "Kernel died before replying" in done.error
