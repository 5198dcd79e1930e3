import json
import math
import re

import numpy as np
import pandas
import pytest
import torch
from conftest import Product, TinyNet, prepare
from torch import nn

from xpuqlib.errors import RecipeError, SensitivityError
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.proof.closeness import sqnr
from xpuqlib.recipe.pt2e import capture
from xpuqlib.recipe.sensitivity import (
    ALL_BUT,
    ONLY,
    SETTINGS,
    Sensitivity,
    measure_sensitivity,
)
from xpuqlib.recipe.switches import Switchable


def calibrated(model: nn.Module, x: torch.Tensor) -> Switchable:
    prepared = prepare(capture(model.eval(), (x,)))
    with torch.no_grad():
        prepared(x)
    return Switchable(prepared)


def spoiled() -> nn.Module:
    """Three convs; one input channel of the second is 1000 times as large as the others."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)
    )
    with torch.no_grad():
        model[0].weight[0] *= 1000
        model[0].bias[0] = 100
        model[2].weight[:, 0] = 0
    return model


class Scoring:
    """SQNR to floating point; counts how often it was asked."""

    def __init__(self, switchable: Switchable, x: torch.Tensor) -> None:
        self.calls, self.x = 0, x
        with switchable.all_off():
            self.floating = switchable(x)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        self.calls += 1
        with torch.no_grad():
            return {"SQNR": sqnr(self.floating, model(self.x)), "one": 1.0}


@pytest.fixture(scope="module")
def flow():
    model, x = spoiled(), torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return calibrated(model, x), x


def last_part(layer: str) -> str:
    return layer.rpartition(".")[2]


def test_the_layer_that_hurts_is_found_and_its_activation_is_to_blame(flow):
    switchable, x = flow
    scoring = Scoring(switchable, x)
    result = measure_sensitivity(switchable, scoring)
    assert scoring.calls == 2 + len(SETTINGS) * 3
    assert result.floating == {"SQNR": math.inf, "one": 1.0}
    assert [last_part(layer) for layer in result.table.index] == ["0", "2", "4"]
    assert last_part(result.order("SQNR")[0]) == "2"
    table = result.table["SQNR"].set_axis(["0", "2", "4"])
    assert table[ALL_BUT].idxmax() == "2"
    assert table[ONLY].idxmin() == "2"
    assert table.loc["2", ALL_BUT] > result.quantized["SQNR"] + 6
    assert table.loc["2", "only its activation"] < table.loc["2", "only its weight"] - 6
    assert "all in int8" in result._repr_html_()


def test_all_switches_are_on_afterwards(flow):
    switchable, x = flow
    before = switchable(x)
    measure_sensitivity(switchable, Scoring(switchable, x))
    assert torch.equal(switchable(x), before)


def test_scores_are_kept_and_a_second_call_goes_on(flow, tmp_path):
    switchable, x = flow
    path, scoring = tmp_path / "scores.json", Scoring(switchable, x)

    class StoppedError(Exception):
        pass

    def stops(model):
        if scoring.calls == 2 + len(SETTINGS) + 1:
            raise StoppedError
        return scoring(model)

    with pytest.raises(StoppedError):
        measure_sensitivity(switchable, stops, path=path)
    assert len(json.loads(path.read_text())["layers"]) == 1
    scoring.calls = 0
    result = measure_sensitivity(switchable, scoring, path=path)
    assert scoring.calls == 2 + 2 * len(SETTINGS)
    fresh = measure_sensitivity(switchable, scoring)
    assert result.table.equals(fresh.table)
    assert list(tmp_path.iterdir()) == [path]


def test_scores_that_cannot_be_kept_leave_nothing(flow, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SensitivityError, match="cannot be written: No space left"):
        measure_sensitivity(flow[0], lambda model: {"a": 1.0}, path=tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_scores_of_something_else_are_refused(flow, tmp_path):
    switchable, x = flow
    path = tmp_path / "scores.json"
    measure_sensitivity(switchable, Scoring(switchable, x), path=path, settings=[ONLY])
    other = calibrated(spoiled(), x * 2)
    with pytest.raises(SensitivityError, match="another calibration"):
        measure_sensitivity(other, Scoring(other, x), path=path)
    with pytest.raises(SensitivityError, match="other data"):
        measure_sensitivity(switchable, Scoring(switchable, x * 3), path=path)
    path.write_text("{}")
    with pytest.raises(SensitivityError, match="holds no scores"):
        measure_sensitivity(switchable, Scoring(switchable, x), path=path)
    with pytest.raises(SensitivityError, match="cannot be written"):
        measure_sensitivity(switchable, Scoring(switchable, x), path=tmp_path / "no" / "a.json")


def test_nan_and_unknown_settings_are_refused(flow):
    switchable, x = flow
    with pytest.raises(SensitivityError, match="'a' is NaN"):
        measure_sensitivity(switchable, lambda model: {"a": math.nan})
    with pytest.raises(SensitivityError, match="no score"):
        measure_sensitivity(switchable, lambda model: {})
    with pytest.raises(RecipeError, match=r"no setting 'only this'(?s:.)*only this layer"):
        measure_sensitivity(switchable, Scoring(switchable, x), settings=["only this"])
    with pytest.raises(RecipeError, match=r"no score 'SQN'(?s:.)*SQNR"):
        measure_sensitivity(switchable, Scoring(switchable, x)).order("SQN")


@pytest.mark.parametrize("kind", [np.float32, torch.tensor, int])
def test_a_score_may_be_of_any_kind_of_number(flow, tmp_path, kind):
    path, settings = tmp_path / "scores.json", [ONLY]
    result = measure_sensitivity(flow[0], lambda m: {"a": kind(3)}, path=path, settings=settings)
    assert json.loads(path.read_text())["ends"]["floating"] == {"a": 3.0}
    assert {type(value) for value in (result.floating["a"], result.quantized["a"])} == {float}
    assert (result.table["a"][ONLY] == 3.0).all()


def test_what_is_no_number_or_nan_for_a_layer_is_refused(flow):
    switchable, _ = flow
    with pytest.raises(SensitivityError, match="A score in floating point is no number"):
        measure_sensitivity(switchable, lambda model: {"a": torch.ones(2)})
    last = switchable.layers[-1]

    def undefined(model):
        on = {switch.layer for switch in switchable.switches if switch.on}
        return {"a": math.nan if on == {last} else 1.0}

    wrong = f"'a' is NaN for the model with {ONLY} in int8 ({last})"
    with pytest.raises(SensitivityError, match=re.escape(wrong)):
        measure_sensitivity(switchable, undefined)


def test_what_one_score_does_not_tell_apart_the_next_one_orders():
    harms = {"accuracy": [0, 2, 0, 2], "SQNR": [1, 5, 3, 6], "same": [0, 0, 0, 0]}
    settings = {
        (score, setting): [value * (setting == ALL_BUT) for value in values]
        for score, values in harms.items()
        for setting in (ONLY, ALL_BUT)
    }
    ends = dict.fromkeys(harms, 0.0)
    measured = Sensitivity(pandas.DataFrame(settings, index=list("abcd")), ends, ends)
    assert measured.order("accuracy") == ["b", "d", "a", "c"]
    assert measured.order("accuracy", then="SQNR") == ["d", "b", "c", "a"]
    assert measured.order("same", then="accuracy") == ["b", "d", "a", "c"]
    with pytest.raises(RecipeError, match="no score 'speed'"):
        measured.order("accuracy", then="speed")


def test_an_order_needs_both_settings(flow):
    measured = measure_sensitivity(flow[0], lambda model: {"a": 1.0}, settings=[ONLY])
    with pytest.raises(SensitivityError, match=f"not measured with '{ALL_BUT}'"):
        measured.order("a")


def test_a_model_of_conv_and_linear(tiny):
    model, x = tiny
    assert isinstance(model, TinyNet)
    switchable = calibrated(model, x)
    result = measure_sensitivity(switchable, Scoring(switchable, x), settings=[ONLY])
    assert [*result.table.index] == ["conv", "linear"]
    assert (result.table["SQNR"][ONLY] > result.quantized["SQNR"]).all()


def test_operators_that_belong_to_no_layer_have_a_row_of_their_own(tiny):
    switchable = calibrated(Product(), tiny[1])
    loose = [switch.reader for switch in switchable.switches if not switch.layer]
    assert loose == ["mul", "mul"] * (pt2e_home() == "torchao")
    result = measure_sensitivity(switchable, Scoring(switchable, tiny[1]))
    assert [*result.table.index] == ["a", "b", *[""] * bool(loose)]
    assert result.order("SQNR") in (["a", "b"], ["b", "a"])
    if loose:
        assert result.table["SQNR"].loc["", ALL_BUT] > result.quantized["SQNR"]
        assert result.table["SQNR"].loc["", ONLY] < math.inf
