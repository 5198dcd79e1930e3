import copy

import pytest
import torch
from conftest import prepare
from torch import nn

from xpuqlib.errors import CalibrationError, XpuqWarning
from xpuqlib.recipe.calibration import calibrate, observers
from xpuqlib.recipe.pt2e import capture


def test_observers_stand_in_graph_order(tiny):
    model, x = tiny
    found = observers(prepare(capture(model, (x,))))
    kinds = [type(observer).__name__ for observer in found.values()]
    assert sorted(kinds) == ["HistogramObserver"] * 2 + ["PerChannelMinMaxObserver"] * 2


@pytest.fixture
def prepared(tiny):
    model, x = tiny
    return prepare(capture(model, (x,))), x


def test_calibrate_reports_what_it_showed(prepared, capsys):
    model, x = prepared
    result = calibrate(model, [x, (x * 0.5, torch.zeros(8))])
    assert (result.batches, result.images) == (2, 16)
    assert result.minimum == x.min().item()
    assert result.maximum == x.max().item()
    assert "16/16" in capsys.readouterr().out
    largest = [o.max_val.max().item() for o in observers(model).values()]
    assert x.max().item() in largest


def test_calibrate_takes_an_iterator(prepared):
    model, x = prepared
    assert calibrate(model, iter([x, x])).batches == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:3], r"shape \[3, 3, 16, 16\]; \[8, 3, 16, 16\] was captured"),
        (lambda x: x[0], "shape"),
        (lambda x: x.double(), "torch.float64; torch.float32"),
        (lambda x: x.to("meta"), "Batch 1 is on meta; cpu was captured"),
        (lambda x: x / 0, "NaN or infinite"),
        (lambda x: torch.full_like(x, float("nan")), "NaN or infinite"),
    ],
)
def test_calibrate_refuses_what_would_spoil_the_observers(prepared, spoil, message):
    model, x = prepared
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CalibrationError, match=message):
        calibrate(model, [spoil(x)])
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_calibrate_refuses_no_batches_and_no_observers(prepared, tiny):
    with pytest.raises(CalibrationError, match="no calibration batches"):
        calibrate(prepared[0], [])
    model, x = tiny
    with pytest.raises(CalibrationError, match="no observers"):
        calibrate(capture(model, (x,)), [x])


@pytest.mark.parametrize("wrong", [lambda x: x * 255, lambda x: x * 0.05, lambda x: x + 20])
def test_calibrate_warns_of_another_preprocessing(prepared, wrong):
    model, x = prepared
    with pytest.warns(XpuqWarning, match="same preprocessing"):
        calibrate(model, [wrong(x)], like=x)


def test_calibrate_warns_of_pixels_that_were_not_normalized(prepared):
    model, x = prepared
    pixels = torch.rand_like(x)
    with pytest.warns(XpuqWarning, match="same preprocessing"):
        calibrate(model, [pixels], like=1.9 * pixels - 0.9)


def test_calibrate_is_quiet_about_the_same_preprocessing(prepared, recwarn):
    model, x = prepared
    calibrate(model, [x], like=torch.randn_like(x))
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.linear = nn.Embedding(5, 4), nn.Linear(7, 2)

    def forward(self, x, ids):
        return self.linear(torch.cat([x, self.table(ids)], dim=1))


def test_all_inputs_of_a_model_are_checked_and_passed_on():
    x, ids, labels = torch.randn(8, 3), torch.arange(8) % 5, torch.zeros(8).long()
    prepared = prepare(capture(TwoInputs().eval(), (x, ids)))
    seen = calibrate(prepared, [(x, ids), (2 * x, ids, labels)])
    assert (seen.batches, seen.images) == (2, 16)
    assert seen.maximum == 2 * x.max()
    assert max(watched.max_val.max() for watched in observers(prepared).values()) >= 2 * x.max()
    with pytest.raises(CalibrationError, match=r"Batch 1 has 1 inputs; 2 were captured"):
        calibrate(prepared, [x])
    with pytest.raises(CalibrationError, match=r"Batch 1 is torch\.int32"):
        calibrate(prepared, [(x, ids.int())])


def test_a_model_without_a_layer_for_the_quantizer_is_named():
    x = torch.randn(2, 3, 8, 8)
    prepared = prepare(capture(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()).eval(), (x,)))
    with pytest.raises(CalibrationError, match="no layer that the XPU quantizer knows"):
        calibrate(prepared, [x])
