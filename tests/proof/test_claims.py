import json
import re

import numpy
import pandas
import pytest
from pydantic import ValidationError

from xpuqlib.proof import claims as module
from xpuqlib.proof.claims import Claim, Claims
from xpuqlib.proof.record import RunRecord


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(module, "display", found.append)
    return found


def test_a_claim_is_shown_with_its_value_and_whether_it_holds(shown):
    claims = Claims()
    claims.add("int8 is <closer>", numpy.float64(2) > 1, "2 dB")
    claims.add("int8 is faster", pandas.Series([0.5]).max() > 1, "0.5 times")
    assert [str(claim) for claim in shown] == [
        "✓ int8 is <closer>: 2 dB",
        "✗ Does not hold here: int8 is faster: 0.5 times",
    ]
    page = shown[0]._repr_mimebundle_()["text/html"]
    assert "int8 is &lt;closer&gt;" in page
    assert "does not hold here" in shown[1]._repr_mimebundle_()["text/html"]


def test_a_cell_that_is_run_again_replaces_its_claim(shown):
    claims = Claims()
    for holds in (False, True):
        claims.add("a", holds, "1")
        claims.add("b", holds, "2")
    assert claims.to_list() == [
        {"text": "a", "holds": True, "value": "1"},
        {"text": "b", "holds": True, "value": "2"},
    ]


def test_what_has_no_truth_value_is_no_claim(shown):
    with pytest.raises(ValueError, match="ambiguous"):
        Claims().add("a", pandas.Series([1.0, 2.0]) > 1, "")
    assert shown == []


def test_the_recap_is_a_table(shown):
    claims = Claims()
    claims.add("a", True, "1")
    claims.add("b", False, "2")
    bundle = claims._repr_mimebundle_()
    cells = re.findall("<td.*?>(.*?)</td>", bundle["text/html"])
    assert cells == ["a", "1", "✓", "b", "2", "does not hold here"]
    assert bundle["text/plain"].count("\n") == 1


def record(**fields):
    common = {"parameters": {}, "device": "cpu", "device_name": "c", "mode": "rehearsed"}
    return RunRecord(lesson="a", seconds=0, **common, **fields)


def test_claims_stand_in_the_record_and_older_records_are_read(shown):
    claims = Claims()
    claims.add("a", True, "1")
    claims.add("b", False, "2")
    made = record(claims=claims.to_list())
    back = RunRecord.model_validate(json.loads(json.dumps(made.to_dict())))
    assert back.claims == [Claim("a", True, "1"), Claim("b", False, "2")]
    assert (back.schema_version, back.claims_held()) == (3, "1 of 2")
    older = {k: v for k, v in made.to_dict().items() if k != "claims"} | {"schema_version": 2}
    assert RunRecord.model_validate(older).claims == []
    assert RunRecord.model_validate(older).claims_held() == "–"
    with pytest.raises(ValidationError):
        RunRecord.model_validate(older | {"schema_version": 1})
