import re
from dataclasses import replace

import pandas
import pytest

from xpuqlib.proof.claims import Claim
from xpuqlib.proof.record import RunRecord
from xpuqlib.runner.pages import _brief, _table, lessons_page, runs_page
from xpuqlib.runner.results import Result, results_frame

LAYERS = [
    {"name": "conv1", "generated": True, "reason": ""},
    {"name": "fc", "generated": False, "reason": "has <no> int8 kernel"},
]
COUNTS = {"conv": {"in the model": 2, "generated": 1, "drafted": 2}, "linear": {"in the model": 0}}


def result(path, lesson="03_a", parameters=None, outcome="rehearsed", evidence=None, **metrics):
    parameters = parameters or {}
    passed = outcome in ("executed", "rehearsed", "reference")
    record = RunRecord(
        lesson=lesson,
        parameters=parameters,
        device="cpu",
        device_name="c",
        mode=outcome,
        seconds=0,
        metrics=metrics,
        evidence=evidence or {},
    )
    ended = ("passed", "") if passed else (outcome, "<why>")
    return Result(path, lesson, parameters, *ended, 21.4, record if passed else None, "A <title>")


def run(tmp_path, n, accuracy, seconds, lesson="08_a", **more):
    spread = {"latency_quantized_iqr_s": 1e-5, "images_evaluated": 450} | more
    values = {"top1_quantized": accuracy, "latency_quantized_s": seconds} | spread
    return result(tmp_path / f"{lesson}-{n}.ipynb", lesson, {"n": n}, **values)


def page(results, baseline=None):
    frame = results_frame(results)
    return runs_page(frame, results, {name: f"n={name[-1]}" for name in frame.index}, baseline)


def row(results):
    """Cells of the first row, without tags."""
    cells = re.findall(r"<td>(.*?)</td>", lessons_page(results))
    return [re.sub("<.*?>", " ", cell).strip() for cell in cells]


def test_a_lesson_is_a_row_with_its_evidence(tmp_path):
    evidence = {"counts": COUNTS, "layers": LAYERS, "sqnr_to_fp32": 41.84}
    one = result(tmp_path / "03_a.ipynb", evidence=evidence)
    (tmp_path / "03_a.html").touch()
    lesson, mode, kernels, drafted, closeness, claims, seconds, left = row([one])
    assert lesson.split() == ["A", "&lt;title&gt;", "03_a"]
    assert (mode.split(), kernels) == (["rehearsed", "on", "cpu"], "1 of 2 conv")
    assert drafted == "2 of 2 conv"
    assert (closeness, claims, seconds) == ("41.8", "–", "21")
    assert left.split("  ") == ["1 layers", " fc: has &lt;no&gt; int8 kernel"]
    assert '<a href="03_a.html"' in lessons_page([one])


@pytest.mark.parametrize(
    ("evidence", "left"),
    [
        ({}, "–"),
        ({"counts": COUNTS, "layers": LAYERS[:1]}, "nothing"),
        ({"counts": {"conv": {"in the model": 2, "generated": 2}}}, "nothing"),
        ({"counts": {"conv": {"in the model": 3, "generated": 1}}}, "2 layers, not named"),
    ],
)
def test_what_was_left_in_floating_point(tmp_path, evidence, left):
    assert row([result(tmp_path / "a.ipynb", evidence=evidence)])[-1].startswith(left)


def test_several_ways_of_quantizing_have_a_range(tmp_path):
    several = {"sqnr_to_fp32_db: PT2E": 41.81, "sqnr_to_fp32_db: none": None, "sqnr_x_db": 1.0}
    several |= {"sqnr_to_fp32_db, on blanks": -1.0, "sqnr_to_fp32_db: imperative": 38.5}
    found = row([result(tmp_path / "a.ipynb", **several)])[4]
    assert found.startswith("38.5 to 41.8")
    assert "PT2E: 41.8" in found
    assert row([result(tmp_path / "a.ipynb")])[3:5] == ["–", "–"]


def test_a_lesson_that_failed_says_why(tmp_path):
    rows = row([result(tmp_path / "a.ipynb", outcome="failed")])
    assert (rows[1], rows[2], rows[-1]) == ("failed", "–", "&lt;why&gt;")


def test_figures_are_for_three_runs_of_a_lesson(tmp_path):
    runs = [run(tmp_path, n, 0.9, 0.01 * (1 + n)) for n in range(3)]
    others = [run(tmp_path, n, 0.9, 0.01, "09_b") for n in range(2)]
    assert page(runs + others).count("<img") == 1
    assert page(runs[:2] + others).count("<img") == 0
    assert "No figure: it takes 3 runs" in page(runs[:2])


def test_the_page_says_what_is_within_the_uncertainty(tmp_path):
    level = [run(tmp_path, n, 0.98, 0.01 + 1e-6 * n) for n in range(3)]
    assert "All differences are within the uncertainty, so no front" in page(level)
    assert "measured on 450 images" in page(level)
    clear = [run(tmp_path, n, 0.6 + 0.15 * n, 0.01 * (1 + n)) for n in range(3)]
    assert "Pareto front: 0; 1; 2." in page(clear)
    old = {"latency_quantized_iqr_s": None, "images_evaluated": None}
    unknown = page([run(tmp_path, n, 0.6 + 0.15 * n, 0.01 * (1 + n), **old) for n in range(3)])
    assert "records of 3 of 3 runs do not hold the spread" in unknown
    assert "Pareto" not in unknown
    assert "Bars" not in unknown


def test_runs_that_no_parameter_tells_apart_have_their_hash():
    names = ["08_a-n=1-0123456789ab", "08_a-n=1-ba9876543210", "08_a-n=2-aaaaaaaaaaaa"]
    frame = pandas.DataFrame({"lesson": "08_a", "parameters.n": [1, 1, 2]}, names)
    labels = dict(zip(names, [*names[:2], "n=2"], strict=True))
    assert list(_brief(frame, labels).values()) == ["1, 012345", "1, ba9876", "2"]


def test_what_all_runs_share_is_said_once(tmp_path):
    shared = page([run(tmp_path, n, 0.98, 0.01 * (1 + n)) for n in range(3)], "08_a-0")
    assert "Differences (Δ) are to n=0." in shared
    same = shared.partition("The same in all runs that have it: ")[2].partition("</p>")[0]
    assert "device cpu; " in same
    assert "top-1 int8 (%) 98.0" in same
    assert "int8 (ms)" not in same


def test_differences_are_within_a_lesson(tmp_path):
    runs = [run(tmp_path, n, 0.9, 0.01 * (1 + n), lesson) for lesson in "ab" for n in range(2)]
    frame = results_frame(runs)
    differences = _table(frame, runs, "a-0")["Δ int8 (% per image)"]
    assert differences.dropna().to_dict() == {"a-0": 0.0, "a-1": 100.0}


def test_claims_are_counted_and_those_that_do_not_hold_are_named(tmp_path):
    one = result(tmp_path / "03_a.ipynb")
    made = [Claim("int8 is <close>", True, "40 dB"), Claim("int8 is fast", False, "0.5 times")]
    record = one.record.model_copy(update={"claims": made})
    page = lessons_page([replace(one, record=record)])
    assert "<summary>1 of 2</summary>" in page
    assert "does not hold here: int8 is fast: 0.5 times" in page
    assert "close" not in page
    assert results_frame([replace(one, record=record)])["claims"].tolist() == ["1 of 2"]
