"""Which models and operators the recipe brings to int8."""

import pytest
import torch
from conftest import prepare, quantize
from torch import nn

from xpuqlib.material.models import load_model
from xpuqlib.names import MODELS
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture, convert_pt2e

LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "resnet18"]


@pytest.mark.parametrize("name", ["resnet18", *LARGE])
def test_every_model_of_the_kit_is_quantized_whole(name):
    torch.manual_seed(0)
    model, x = load_model(name, "random"), torch.randn(2, 3, 64, 64)
    layers = quantizable_layers(quantize(capture(model, (x,)), x))
    expected = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == len(expected)
    assert all(layer.scale is not None for layer in layers)


# Upstream's own list of int8 patterns on XPU (pytorch, test_mkldnn_pattern_matcher.py).


class Pattern(nn.Module):
    def __init__(self, kind: str, after: str) -> None:
        super().__init__()
        layer = {
            "conv": lambda: nn.Conv2d(3, 16, 3, padding=1),
            "linear": lambda: nn.Linear(32, 16),
        }
        self.first, self.second, self.after = layer[kind](), layer[kind](), after

    def forward(self, x):
        y = self.first(x)
        if "add" in self.after:
            y = y + self.second(x)
        if "relu" in self.after:
            y = y.relu()
        return getattr(nn.functional, self.after)(y) if hasattr(nn.functional, self.after) else y


@pytest.mark.parametrize("device", ["cpu", pytest.param("xpu", marks=pytest.mark.xpu)])
@pytest.mark.parametrize("bf16_autocast", [False, True], ids=["int8", "int8-mixed-bf16"])
@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("conv", "none"),
        ("conv", "relu"),
        ("conv", "add"),
        ("conv", "add_relu"),
        ("conv", "relu6"),
        ("conv", "hardswish"),
        ("conv", "silu"),
        ("linear", "none"),
        ("linear", "relu"),
        ("linear", "gelu"),
        ("linear", "add"),
    ],
)
def test_upstreams_patterns_reach_int8(kind, after, bf16_autocast, device):
    torch.manual_seed(0)
    model = Pattern(kind, after).eval().to(device)
    x = (torch.randn(2, 3, 12, 12) if kind == "conv" else torch.randn(8, 32)).to(device)
    converted = convert_pt2e(calibrated(prepare(capture(model, (x,))), x))
    lowered = lower(converted, (x,), bf16_autocast=bf16_autocast)
    proof = collect_evidence(model, converted, lowered, (x,))
    proof.require_int8()
    assert all(layer.generated for layer in proof.layers)
    # The sum of a bf16 convolution and a dequantized residual is fp32, in the Q/DQ graph as well.
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16_autocast):
        assert lowered(x).dtype == converted(x).dtype
    if bf16_autocast and "add" not in after:
        assert lowered(x).dtype == torch.bfloat16


def calibrated(prepared, x):
    with torch.no_grad():
        prepared(x)
    return prepared
