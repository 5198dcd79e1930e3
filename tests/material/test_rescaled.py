import pytest
import torch

from xpuqlib.errors import ModelError
from xpuqlib.material.models import load_model
from xpuqlib.material.rescaled import FACTORS, rescale_channels


def test_rescaling_changes_channels_and_not_the_function():
    model = load_model("resnet18", "random")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    inside = []
    model.layer1[1].conv2.register_forward_pre_hook(lambda _, inputs: inside.append(inputs[0]))
    with torch.no_grad():
        before = model(x)
        after = rescale_channels(model)(x)
    # Powers of two change no digit of a value, but sums in conv2 round in another place.
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(inside[1][:, 0], inside[0][:, 0] * FACTORS["layer1.1"])
    assert torch.equal(inside[1][:, 1:], inside[0][:, 1:])


def test_the_kit_has_one_by_name():
    rescaled, plain = load_model("resnet18_rescaled", "random"), load_model("resnet18", "random")
    others = dict(rescaled.named_parameters())
    changed = {n for n, value in plain.named_parameters() if not torch.equal(value, others[n])}
    weights = {f"{block}.{part}.weight" for block in FACTORS for part in ("bn1", "conv2")}
    assert changed == weights  # with random weights every bias of a BatchNorm is 0


def test_a_model_without_such_blocks_is_refused():
    with pytest.raises(ModelError, match=r"no block 'layer1\.1'"):
        rescale_channels(load_model("mobilenet_v2", "random"))
