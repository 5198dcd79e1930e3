import copy

import pytest
import torch
from conftest import prepare, quantize
from torch import nn

from xpuqlib.errors import RecipeError, SensitivityError
from xpuqlib.recipe.exceptions import keep_in_float
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)
from xpuqlib.recipe.switches import Switchable


class Residual(nn.Module):
    """In-place additions, a value with two readers, a concatenation, a pool and a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.right = nn.Conv2d(8, 4, 1)
        self.last = nn.Conv2d(12, 8, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.norm(self.left(x))
        y += x
        y = self.relu(y)
        x = self.relu(self.last(torch.cat([y, self.relu(self.right(y))], 1)))
        return self.head(torch.flatten(self.pool(x), 1))


LAYERS = ("stem", "left", "right", "last", "head")


@pytest.fixture(scope="module")
def calibrated():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    prepared = prepare(capture(Residual().eval(), (x,)))
    with torch.no_grad():
        prepared(x)
    return prepared, x


@pytest.fixture(scope="module")
def switchable(calibrated):
    return Switchable(calibrated[0])


def test_all_on_is_the_converted_model_and_all_off_the_prepared_one(calibrated, switchable):
    prepared, x = calibrated
    with torch.no_grad():
        floating = prepared(x)
        converted = convert_pt2e(copy.deepcopy(prepared))(x)
    other = torch.randn(x.shape)
    assert torch.equal(switchable(x), converted)
    with switchable.all_off():
        assert torch.equal(switchable(x), floating)
        assert not torch.equal(switchable(other), floating)
    assert torch.equal(switchable(x), converted)
    assert not torch.equal(floating, converted)


def test_all_switched_one_by_one_is_all_on(switchable, calibrated):
    _, x = calibrated
    everything = switchable(x)
    assert switchable.layers == LAYERS
    with switchable.only(LAYERS):
        assert torch.equal(switchable(x), everything)
    with switchable.all_but(LAYERS):
        nothing = switchable(x)
    with switchable.all_off():
        assert torch.equal(switchable(x), nothing)


def test_readers_of_one_value_are_switched_apart(switchable, calibrated):
    _, x = calibrated
    shared = {s.source for s in switchable.switches if s.layer == "right" and s.kind != "weight"}
    readers = [s for s in switchable.switches if s.source in shared]
    assert {s.layer for s in readers} > {"right"}
    assert len({s.scale.item() for s in readers}) == 1
    with switchable.only("right", ["activation"]):
        one = switchable(x)
        assert [s.layer for s in readers if s.on] == ["right"]
    with switchable.only("right", ["weight"]):
        other = switchable(x)
    with switchable.all_off():
        floating = switchable(x)
    assert not torch.equal(one, floating)
    assert not torch.equal(other, floating)
    assert not torch.equal(one, other)


def test_a_layer_takes_what_is_added_to_it_along(switchable):
    added = [s for s in switchable.switches if s.reader.startswith("add")]
    assert [(s.layer, s.kind) for s in added] == [("left", "other")]
    with switchable.all_but(["left"]):
        off = {(s.layer, s.kind) for s in switchable.switches if not s.on}
    assert off == {("left", "activation"), ("left", "weight"), ("left", "other")}


def test_a_layer_off_is_the_layer_left_out_by_upstream():
    # A chain: nothing propagates, so that switching must give exactly what upstream's means give.
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    chain = nn.Sequential(*chain, nn.Conv2d(8, 4, 3)).eval()
    x = torch.randn(4, 3, 16, 16)
    captured = capture(chain, (x,))
    prepared = prepare(copy.deepcopy(captured))
    with torch.no_grad():
        prepared(x)
    switchable = Switchable(prepared)
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    keep_in_float(quantizer, captured, ["2"])
    without = prepare_pt2e(captured, quantizer)
    with torch.no_grad():
        without(x)
        expected = convert_pt2e(without)(x)
    with switchable.all_but(["2"]):
        assert torch.equal(switchable(x), expected)


def test_the_prepared_model_stays_as_it_was_and_shares_its_weights(calibrated, switchable):
    prepared, _ = calibrated
    code = prepared.code
    mine = Switchable(prepared)
    assert prepared.code == code
    theirs = {id(parameter) for parameter in prepared.parameters()}
    assert {id(parameter) for parameter in mine.model.parameters()} <= theirs


def test_an_error_inside_leaves_the_switches_as_they_were(switchable):
    def fail():
        with switchable.all_off():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(switch.on for switch in switchable.switches)


def test_unknown_names_are_refused(switchable):
    layer = r"no layer of this model 'lef'(?s:.)*Use left"
    with pytest.raises(RecipeError, match=layer), switchable.only(["lef"]):
        pass
    kind = r"no kind 'weights'(?s:.)*Use weight"
    with pytest.raises(RecipeError, match=kind), switchable.all_but(["left"], ["weights"]):
        pass


def test_what_is_not_calibrated_is_refused(tiny):
    model, x = tiny
    with pytest.raises(SensitivityError, match="seen no values"):
        Switchable(prepare(capture(model, (x,))))
    with pytest.raises(SensitivityError, match="no observers"):
        Switchable(quantize(capture(model, (x,)), x))
