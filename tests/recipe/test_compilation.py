"""What is read from Inductor: the operators of the lowered graph, and the calls in its code."""

import pytest
import torch
from conftest import DEVICES, quantize
from torch import nn

from xpuqlib.errors import LoweringError
from xpuqlib.recipe.compilation import Operator, observe_compilation
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture


def test_a_compiled_model_cannot_be_observed_a_second_time(tiny):
    model, x = tiny
    compiled = torch.compile(model)
    with torch.no_grad():
        compiled(x)
    with pytest.raises(LoweringError, match="Nothing was compiled"):
        observe_compilation(compiled, (x,))


def operators(model, x, **settings):
    converted = quantize(capture(model, (x,)), x)
    return lower(converted, (x,), **settings).compilation.operators


@pytest.mark.parametrize(("bf16_autocast", "dtype"), [(False, "fp32"), (True, "bf16")])
def test_operators_are_in_order_and_know_their_dtypes(tiny, bf16_autocast, dtype):
    expected = [
        Operator("quantize_per_tensor", "fp32", "int8"),
        Operator("qconv", "int8", dtype),  # nothing is quantized behind it
        Operator("mean", dtype, dtype),
        Operator("quantize_per_tensor", dtype, "int8"),
        Operator("qlinear", "int8", dtype),
    ]
    assert list(operators(*tiny, bf16_autocast=bf16_autocast)) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_without_the_rewrite_autocast_makes_a_max_pool_bf16(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 1))
    model, x = model.eval().to(device), torch.randn(2, 3, 12, 12, device=device)
    found = operators(model, x, int8_max_pool=False, bf16_autocast=True)
    [pool] = [operator for operator in found if "max_pool" in operator.name]
    assert (pool.reads, pool.writes) == ("bf16", "bf16")


def test_after_the_rewrite_a_max_pool_is_int8():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 1)
    x = torch.randn(2, 3, 12, 12)
    found = operators(nn.Sequential(*layers).eval(), x, bf16_autocast=True)
    [pool] = [operator for operator in found if "pool" in operator.name]
    assert pool == Operator("qmaxpool2d", "int8", "int8")


def test_dtypes_of_the_graph_are_those_of_the_generated_calls(resnet_flow):
    mixed = lower(
        resnet_flow.converted, resnet_flow.inputs, int8_max_pool=False, bf16_autocast=True
    )
    calls = [o for o in mixed.compilation.operators if o.name.startswith(("qconv", "qlinear"))]
    lines = [line for line in mixed.compilation.code.splitlines() if "torch.ops.onednn.q" in line]
    lines = [line for line in lines if "prepack" not in line]
    names = {"int8": "torch.uint8", "bf16": "torch.bfloat16", "fp32": "torch.float32"}
    assert len(calls) == len(lines) == 21
    assert [names[call.writes] in line for call, line in zip(calls, lines, strict=True)] == [
        True
    ] * 21
