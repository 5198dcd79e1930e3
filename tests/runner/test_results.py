import json
import os
import re
from dataclasses import replace

import nbformat
import pytest
from conftest import RECORD, write_notebook

from xpuqlib.errors import RunError
from xpuqlib.proof.claims import Claim
from xpuqlib.proof.record import RunRecord
from xpuqlib.runner.execution import Job
from xpuqlib.runner.kernel import finish, run_task
from xpuqlib.runner.results import (
    Result,
    check_folder,
    compare,
    read_results,
    results_frame,
    store,
)


def executed(tmp_path, name, parameters=None, result="passed", error=""):
    path = write_notebook(tmp_path / f"{name}.ipynb", "n: int = 1", "1")
    task = Job(path, parameters or {}).task(name=name)
    return finish(task, task.notebook, result, error, 1.5)


def result(path, parameters, metrics=None, generated=20, outcome="rehearsed"):
    passed = outcome in ("executed", "rehearsed", "reference")
    record = (
        RunRecord(
            lesson="a",
            parameters={"n": 1, **parameters},
            device="cpu",
            device_name="c",
            mode=outcome,
            seconds=0,
            metrics=metrics or {},
            evidence={"counts": {"conv": {"in the model": 20, "generated": generated}}},
        )
        if passed
        else None
    )
    result = "passed" if passed else outcome
    error = "" if passed else "why"
    return Result(path, "a", parameters, result, error, 2.0, record)


def test_a_result_is_stored_and_read_back(tmp_path):
    out = tmp_path / "out"
    check_folder(out)
    stored = store(executed(tmp_path, "a", {"n": 3}, "failed", "why"), out)
    assert read_results(out) == [stored]
    assert (stored.lesson, stored.parameters) == ("a", {"n": 3})
    assert (stored.result, stored.error, stored.seconds) == ("failed", "why", 1.5)
    assert (stored.record, stored.outcome) == (None, "failed")
    assert stored.page == out / "a.html"


def test_files_of_a_former_run_do_not_stay_beside_a_new_one(tmp_path):
    out = tmp_path / "out"
    check_folder(out)
    done = executed(tmp_path, "a")
    store(replace(done, files={"recipe.yml": b"1", "quantize.py": b"1"}), out)
    store(replace(done, files={"recipe.yml": b"2"}), out)
    assert [path.read_bytes() for path in (out / "a").iterdir()] == [b"2"]
    store(executed(tmp_path, "a", result="failed", error="why"), out)
    assert not (out / "a").exists()


def test_a_folder_that_no_run_has_left_is_kept(tmp_path):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "notes.txt").write_text("mine")
    done = executed(tmp_path, "a")
    store(done, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "notes.txt").read_text() == "mine"
    write_notebook(tmp_path / "out" / "a.ipynb", None, "1")  # a person's own, too
    store(done, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "notes.txt").exists()


def test_a_notebook_without_record_passed_without_outcome(tmp_path):
    check_folder(tmp_path / "out")
    assert store(executed(tmp_path, "a"), tmp_path / "out").outcome == "no record"


def test_a_damaged_record_is_seen_in_its_row(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "n: int = 1", RECORD)
    done = run_task(Job(path, {}).task())
    check_folder(tmp_path / "out")
    stored = store(done, tmp_path / "out")
    assert stored.record.metrics["latency_quantized_s"] == 0.01
    text = stored.path.read_text(encoding="utf-8")
    stored.path.write_text(re.sub(r'"schema_version": \d+', '"schema_version": 1', text))
    [damaged] = read_results(tmp_path / "out")
    assert (damaged.outcome, damaged.record) == ("failed", None)
    assert "schema_version" in damaged.error


def test_other_notebooks_are_no_results_and_rubbish_is_an_error(tmp_path):
    write_notebook(tmp_path / "own.ipynb", None, "1")
    with pytest.raises(RunError, match="holds no executed notebook"):
        read_results(tmp_path)
    (tmp_path / "half.ipynb").write_text('{"cells": [')
    with pytest.raises(RunError, match=r"half\.ipynb is not a notebook"):
        read_results(tmp_path)


def test_what_a_killed_writer_left_is_cleared_and_never_read(tmp_path):
    (tmp_path / ".a.ipynb.123.partial").write_text('{"cells": [')
    with pytest.raises(RunError, match="holds no executed notebook"):
        read_results(tmp_path)
    check_folder(tmp_path)
    assert list(tmp_path.iterdir())  # another sweep may be about to rename it
    os.utime(tmp_path / ".a.ipynb.123.partial", (0, 0))
    check_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_frame_has_a_row_for_each_run(tmp_path):
    results = [
        result(tmp_path / "x.ipynb", {"n": 5}, {"top1_quantized": 0.9}, generated=19),
        result(tmp_path / "y.ipynb", {"n": 6}, outcome="timed out"),
    ]
    frame = results_frame(results)
    assert list(frame.index) == ["x", "y"]
    assert list(frame["outcome"]) == ["rehearsed", "timed out"]
    assert list(frame["parameters.n"]) == [5, 6]
    assert frame.loc["x", "metrics.top1_quantized"] == 0.9
    assert frame.loc["x", "int8_count"] == 19
    assert frame["metrics.top1_quantized"].isna()["y"]
    assert frame.loc["y", "error"] == "why"


def test_compare_finds_what_got_worse_and_nothing_else(tmp_path):
    good = {"top1_quantized": 0.9, "latency_quantized_s": 0.010, "sqnr_to_fp32_db": 40.0, "x": 1.0}
    before = [result(tmp_path / f"{n}.ipynb", {"n": n}, good) for n in range(4)]
    after = [
        result(tmp_path / "p.ipynb", {"n": 0}, good | {"latency_quantized_s": 0.0109, "x": 9.0}),
        result(tmp_path / "q.ipynb", {"n": 1}, good | {"latency_quantized_s": 0.0115}, 19),
        result(
            tmp_path / "r.ipynb", {"n": 2}, good | {"top1_quantized": 0.85, "sqnr_to_fp32_db": 38.9}
        ),
        result(tmp_path / "s.ipynb", {"n": 3}, outcome="failed"),
    ]
    losses = compare(before, after)
    assert [(row.parameters, row.what) for row in losses.itertuples()] == [
        ("n=1", "int8 kernels"),
        ("n=1", "latency_quantized_s"),
        ("n=2", "top1_quantized"),
        ("n=2", "sqnr_to_fp32_db"),
        ("n=3", "outcome"),
    ]
    assert losses.iloc[0]["after"] == "19 of 20 conv"
    assert losses.iloc[4]["after"] == "failed why"
    assert compare(before, before).empty
    assert len(compare(before, after, slower=0.05)) == 6
    assert len(compare(before, after, top1=0.1)) == 4
    with pytest.raises(RunError, match="No run is in both"):
        compare(before[:1], after[1:])


def test_compare_does_not_call_a_gain_a_loss_or_overlook_what_is_gone(tmp_path):
    def one(outcome="rehearsed", n=0, **metrics):
        return result(tmp_path / f"{n}.ipynb", {"n": n}, metrics, outcome=outcome)

    assert compare([one("failed")], [one()]).empty
    assert compare([one("rehearsed")], [one("executed")]).empty
    assert list(compare([one("executed")], [one("rehearsed")])["after"]) == ["rehearsed"]
    gone = compare([one(), one(n=1)], [one()])
    assert [(row.parameters, row.what, row.after) for row in gone.itertuples()] == [
        ("n=1", "run", "missing")
    ]
    undefined = compare([one(top1_quantized=0.9)], [one(top1_quantized=None)])
    assert list(undefined["after"]) == ["undefined"]
    with pytest.raises(RunError, match="holds a run twice"):
        compare([one(), one()], [one()])


def test_the_spread_of_a_latency_is_no_latency(tmp_path):
    before, after = (
        [result(tmp_path / "x.ipynb", {"n": 0}, {"latency_quantized_iqr_s": seconds})]
        for seconds in (0.001, 0.009)
    )
    assert compare(before, after).empty


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("Text\n\n## One `recipe`, many runs ##\n# Next", "One recipe, many runs"),
        ("#no heading", "a"),
        ("text", "a"),
    ],
)
def test_the_title_is_the_first_heading(tmp_path, source, title):
    stored = store(executed(tmp_path, "a"), tmp_path)
    node = nbformat.read(stored.path, as_version=4)
    node.cells.insert(0, nbformat.v4.new_raw_cell("# raw"))
    node.cells.append(nbformat.v4.new_markdown_cell(source))
    nbformat.write(node, stored.path)
    assert read_results(tmp_path)[0].title == title


def test_metadata_of_another_shape_is_an_error(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", None, "1")
    node = json.loads(path.read_text())
    node["metadata"]["xpuqlib"] = {"x": 1}
    path.write_text(json.dumps(node))
    with pytest.raises(RunError, match="was not written by this runner"):
        read_results(tmp_path)


def test_a_claim_that_held_and_does_not_now_is_a_loss(tmp_path):
    def one(*claims):
        made = result(tmp_path / "a.ipynb", {"n": 0})
        return replace(made, record=made.record.model_copy(update={"claims": [*claims]}))

    held, failed = Claim("int8 is close", True, "40 dB"), Claim("int8 is close", False, "9 dB")
    [loss] = compare([one(held)], [one(failed)]).itertuples()
    assert (loss.what, loss.before, loss.after) == (
        "claim: int8 is close",
        "40 dB",
        "does not hold: 9 dB",
    )
    assert compare([one(failed)], [one(held)]).empty
    assert compare([one(failed)], [one(failed)]).empty
    assert compare([one(held)], [one()]).empty


def test_compare_reports_a_call_that_the_program_for_the_gpu_has_lost(tmp_path):
    one = result(tmp_path / "a.ipynb", {"n": 1}, {})
    records = [
        one.record.model_copy(
            update={"evidence": {"counts": {"conv": {"in the model": 2, "generated": 2} | stages}}}
        )
        for stages in ({"drafted": 2}, {"drafted": 1}, {})
    ]
    whole, fewer, none = ([replace(one, record=record)] for record in records)
    [loss] = compare(whole, fewer).itertuples()
    assert (loss.what, loss.before, loss.after) == (
        "int8 calls drafted for an Intel GPU",
        "2 of 2 conv",
        "1 of 2 conv",
    )
    assert compare(whole, none).iloc[0]["after"] == "–"  # it could not be drafted
    assert compare(none, whole).empty
