"""Claims hold on older CPUs, too: without VNNI sums of int8 products saturate at 16 bits.

`make test` takes one lesson under one limit, `make claims` all lessons under both.
"""

import pytest
from trial import LESSONS, record_of, xpuq_run

LIMITS = ("AVX2", "AVX512_CORE")  # oneDNN's names of what it may use, both without VNNI
PAIRS = [(lesson, limit) for lesson in LESSONS for limit in LIMITS]


def one(lesson, limit):
    marks = pytest.mark.slow if (lesson, limit) == PAIRS[0] else pytest.mark.claims
    return pytest.param(lesson, limit, id=f"{lesson.stem}-{limit}", marks=marks)


@pytest.mark.parametrize(("lesson", "limit"), [one(*pair) for pair in PAIRS])
def test_all_claims_hold_without_vnni(lesson, limit, tmp_path, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)  # oneDNN reads it when the kernel starts
    xpuq_run(tmp_path, lesson, "--device", "cpu")
    record = record_of(tmp_path / lesson.name)
    assert len(record.claims) >= 6
    assert [claim for claim in record.claims if not claim.holds] == []
    notes = record.evidence.get("notes", [])
    assert not notes or any("without VNNI" in note for note in notes)
