import pytest
import torch
from conftest import prepare
from packaging.version import Version
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from xpuqlib.errors import CaptureError
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.material.models import load_model
from xpuqlib.proof.graph import count_operators
from xpuqlib.recipe import pt2e
from xpuqlib.recipe.calibration import observers


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


def test_one_class_can_be_captured_many_times_in_one_process():
    for width in range(1, 12):  # a student tries an exercise more than eight times
        layers = nn.Sequential(nn.Linear(4, width), nn.ReLU()).eval()
        captured = pt2e.capture(layers, (torch.ones(2, 4),))
        assert captured(torch.ones(2, 4)).shape == (2, width)


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
        found = observers(prepare(captured))
    assert {value.device.type for value in captured.parameters()} == {"xpu"}
    assert sum(isinstance(o, pt2e.PerChannelMinMaxObserver) for o in found.values()) == 21
