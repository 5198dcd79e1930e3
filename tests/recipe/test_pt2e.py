import copy

import pytest
import torch
from conftest import prepare
from packaging.version import Version
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from xpuqlib.errors import CalibrationError, CaptureError, XpuqWarning
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.material.models import load_model
from xpuqlib.proof.graph import count_operators
from xpuqlib.recipe import pt2e


def test_names_come_from_the_home_of_this_track():
    home = pt2e_home()
    for name in pt2e.__all__:
        value = getattr(pt2e, name)
        assert value.__module__.startswith((home, "xpuqlib")), name


def test_capture_keeps_the_numbers(tiny):
    model, x = tiny
    captured = pt2e.capture(model, (x,))
    torch.testing.assert_close(captured(x), model(x))
    assert count_operators(captured)["aten.conv2d.default"] == 1


@pytest.mark.parametrize("where", ["all of it", "one layer"])
def test_capture_refuses_training_mode(tiny, where):
    model, x = tiny
    (model if where == "all of it" else model.linear).train()
    with pytest.raises(CaptureError, match=r"training mode(?s:.*)model.eval\(\)"):
        pt2e.capture(model, (x,))


def test_capture_refuses_two_devices(tiny):
    model, x = tiny
    with pytest.raises(CaptureError, match=r"cpu, meta(?s:.*)x.to\(device\)"):
        pt2e.capture(model, (x.to("meta"),))


def test_capture_refuses_inputs_that_the_model_does_not_take(tiny):
    model, x = tiny
    with pytest.raises(CaptureError, match=r"Pass a tuple: \(x,\)"):
        pt2e.capture(model, x)
    for wrong in (x[:, :2], x.double()):
        with pytest.raises(CaptureError, match=r"does not run on these inputs(?s:.*)dtype that"):
            pt2e.capture(model, (wrong,))


def test_capture_names_what_export_cannot_do():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match="cannot capture Branch"):
        pt2e.capture(Branch().eval(), (torch.ones(2),))


def test_observers_stand_in_graph_order(tiny):
    model, x = tiny
    found = pt2e.observers(prepare(pt2e.capture(model, (x,))))
    kinds = [type(observer).__name__ for observer in found.values()]
    assert sorted(kinds) == ["HistogramObserver"] * 2 + ["PerChannelMinMaxObserver"] * 2


@pytest.fixture
def prepared(tiny):
    model, x = tiny
    return prepare(pt2e.capture(model, (x,))), x


def test_calibrate_reports_what_it_showed(prepared, capsys):
    model, x = prepared
    result = pt2e.calibrate(model, [x, (x * 0.5, torch.zeros(8))])
    assert (result.batches, result.images) == (2, 16)
    assert result.minimum == x.min().item()
    assert result.maximum == x.max().item()
    assert "16/16" in capsys.readouterr().out
    largest = [o.max_val.max().item() for o in pt2e.observers(model).values()]
    assert x.max().item() in largest


def test_calibrate_takes_an_iterator(prepared):
    model, x = prepared
    assert pt2e.calibrate(model, iter([x, x])).batches == 2


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
        pt2e.calibrate(model, [spoil(x)])
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_calibrate_refuses_no_batches_and_no_observers(prepared, tiny):
    with pytest.raises(CalibrationError, match="no calibration batches"):
        pt2e.calibrate(prepared[0], [])
    model, x = tiny
    with pytest.raises(CalibrationError, match="no observers"):
        pt2e.calibrate(pt2e.capture(model, (x,)), [x])


@pytest.mark.parametrize("wrong", [lambda x: x * 255, lambda x: x * 0.05, lambda x: x + 20])
def test_calibrate_warns_of_another_preprocessing(prepared, wrong):
    model, x = prepared
    with pytest.warns(XpuqWarning, match="same preprocessing"):
        pt2e.calibrate(model, [wrong(x)], like=x)


def test_calibrate_warns_of_pixels_that_were_not_normalized(prepared):
    model, x = prepared
    pixels = torch.rand_like(x)
    with pytest.warns(XpuqWarning, match="same preprocessing"):
        pt2e.calibrate(model, [pixels], like=1.9 * pixels - 0.9)


def test_calibrate_is_quiet_about_the_same_preprocessing(prepared, recwarn):
    model, x = prepared
    pt2e.calibrate(model, [x], like=torch.randn_like(x))
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]


@pytest.mark.skipif(
    not torch.xpu._is_compiled() and (2, 8) < Version(torch.__version__).release[:2] < (2, 14),
    reason="this torch asks the XPU driver even for fake tensors",
)
def test_capture_and_annotation_on_xpu_without_hardware():
    model = load_model("resnet18", "random")
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, value in [*module._parameters.items(), *module._buffers.items()]:
                if value is None:
                    continue
                fake = torch.empty(value.shape, dtype=value.dtype, device="xpu")
                if name in module._parameters:
                    module._parameters[name] = nn.Parameter(fake, requires_grad=False)
                else:
                    module._buffers[name] = fake
        captured = pt2e.capture(model, (torch.empty(2, 3, 64, 64, device="xpu"),))
        found = pt2e.observers(prepare(captured))
    assert {value.device.type for value in captured.parameters()} == {"xpu"}
    assert sum(isinstance(o, pt2e.PerChannelMinMaxObserver) for o in found.values()) == 21
