import copy
import math

import pytest
import torch
from conftest import DEVICES, Inceptions, prepare, quantize
from torch import nn

from xpuqlib.errors import LoweringError
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.material.models import load_model
from xpuqlib.proof.closeness import sqnr
from xpuqlib.recipe.calibration import observers
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.passes import (
    keep_max_pools_floating,
    quantize_above_max_pool,
    signed_to_unsigned,
)
from xpuqlib.recipe.pt2e import capture


class SharedObservers(nn.Module):
    """Pooling and flatten pass codes on: their outputs share the observers of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left, self.right, self.last = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.last((self.left(x) + self.right(x)).relu())
        return self.head(torch.flatten(self.pool(x), 1))


def test_the_hand_made_net_does_share_observers():
    model, x = build("shared observers")
    found = list(observers(prepare(capture(model, (x,)))).values())
    assert len({id(observer) for observer in found}) < len(found)


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if name == "shared observers":
        return SharedObservers().eval(), torch.randn(4, 3, 16, 16)
    return load_model(name, "digits"), torch.rand(4, 3, 32, 32) * 2 - 1


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shared observers"])
def test_signed_to_unsigned_is_exact(name):
    model, x = build(name)
    converted = quantize(capture(model, (x,)), x)
    rewritten = copy.deepcopy(converted)
    assert signed_to_unsigned(rewritten) > 0
    dtypes = {node.args[5] for node in rewritten.graph.nodes if "per_tensor" in str(node.target)}
    assert dtypes == {torch.uint8}
    with torch.no_grad():
        for inputs in (x, 3 * x, torch.zeros_like(x)):  # 3x: beyond the range that was calibrated
            assert torch.equal(converted(inputs), rewritten(inputs))


def test_a_graph_without_int8_activations_stays(tiny):
    model, x = tiny
    captured = capture(model, (x,))
    before = captured.code
    assert signed_to_unsigned(captured) == 0
    assert captured.code == before


def test_codes_used_by_another_operator_are_refused_and_left_alone(tiny):
    model, x = tiny
    converted = quantize(capture(model, (x,)), x)
    node = next(
        n
        for n in converted.graph.nodes
        if str(n.target).startswith("quantized_decomposed.quantize_per_tensor")
    )
    with converted.graph.inserting_after(node):
        converted.graph.call_function(torch.ops.aten.neg.default, (node,))
    with pytest.raises(LoweringError, match="do not share"):
        signed_to_unsigned(converted)
    assert node.args[5] == torch.int8


class Pooled(nn.Module):
    """Conv, ReLU, max-pool, and GoogLeNet-like branches behind it."""

    def __init__(self, branches: int = 1, **pool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.pool = nn.MaxPool2d(**{"kernel_size": 3, "stride": 2, **pool})
        self.branches = nn.ModuleList(nn.Conv2d(16, 8, 1) for _ in range(branches))

    def forward(self, x):
        x = self.pool(self.stem(x).relu())
        return torch.cat([branch(x) for branch in self.branches], 1)


class PooledByFunction(Pooled):
    """As people write it; export then records no stride."""

    def forward(self, x):
        return self.branches[0](nn.functional.max_pool2d(self.stem(x).relu(), 3, ceil_mode=True))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (Pooled(), 17),
        (Pooled(kernel_size=2, stride=2), 16),
        (Pooled(kernel_size=3, stride=1), 16),  # overlapping windows
        (Pooled(kernel_size=5, stride=2, padding=2), 16),
        (Pooled(ceil_mode=True), 17),
        (Pooled(ceil_mode=True), 18),  # its last windows reach beyond the input
        (Pooled(ceil_mode=True, padding=1, dilation=2), 18),
        (Pooled(dilation=2, stride=1), 17),
        (Pooled(branches=3, padding=1), 16),
        ("resnet18", 32),
        (PooledByFunction(), 16),
    ],
    ids=lambda value: "" if isinstance(value, nn.Module) else str(value),
)
def test_quantize_above_max_pool_is_exact(model, size):
    torch.manual_seed(0)
    model = load_model(model) if isinstance(model, str) else model.eval()
    x = torch.randn(4, 3, size, size)
    converted = quantize(capture(model, (x,)), x)
    rewritten = copy.deepcopy(converted)
    assert quantize_above_max_pool(rewritten) == 1
    with torch.no_grad():
        for inputs in (x, 5 * x, -x):  # beyond the range that was calibrated, too
            assert torch.equal(converted(inputs), rewritten(inputs))
    assert quantize_above_max_pool(rewritten) == 0  # a second time there is nothing left to do


def quantized_pools(*settings):
    """A hand-made graph: one max-pool, and a quantize of its output for each scale and zero point.

    A setting of None is a user that takes the output in floating point.
    """
    ops, aten = torch.ops.quantized_decomposed, torch.ops.aten
    graph = torch.fx.Graph()
    pool = graph.call_function(aten.max_pool2d.default, (graph.placeholder("x"), [2, 2]))
    outputs = []
    for setting in settings:
        if setting is None:
            outputs.append(graph.call_function(aten.neg.default, (pool,)))
            continue
        arguments = (*setting, -128, 127, torch.int8)
        codes = graph.call_function(ops.quantize_per_tensor.default, (pool, *arguments))
        outputs.append(graph.call_function(ops.dequantize_per_tensor.default, (codes, *arguments)))
    graph.output(tuple(outputs))
    return torch.fx.GraphModule(nn.Module(), graph)


@pytest.mark.parametrize(
    ("settings", "rewritten"),
    [
        ([(0.1, 3)], 1),
        ([(0.1, 3), (0.1, 3)], 1),
        ([(0.1, 3), (0.2, 3)], 0),
        ([(0.1, 3), (0.1, 4)], 0),
        ([(0.1, 3), None], 0),
        ([None], 0),
    ],
)
def test_a_pool_whose_users_disagree_is_left_alone(settings, rewritten):
    module = quantized_pools(*settings)
    x = torch.randn(1, 2, 8, 8) * 20
    before = module(x)
    assert quantize_above_max_pool(module) == rewritten
    assert all(torch.equal(a, b) for a, b in zip(before, module(x), strict=True))


def test_nan_is_the_documented_exception():
    module = quantized_pools((0.1, 3))
    x = torch.full((1, 1, 2, 2), 5.0)
    x[0, 0, 0, 0] = math.nan
    [lost] = module(x)  # the maximum is NaN, and int8 has no NaN: some code stands for it
    quantize_above_max_pool(module)
    [kept] = module(x)
    assert torch.isfinite(lost).all()
    assert kept.item() == pytest.approx(5.0)


@pytest.mark.parametrize("ceil_mode", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("everywhere", [None, pytest.param(False, marks=pytest.mark.slow)])
def test_max_pools_that_inductor_would_get_wrong(ceil_mode, everywhere, device):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16, device=device)
    converted = quantize(capture(Inceptions(ceil_mode).eval().to(device), (x,)), x)
    lowered = lower(converted, (x,), int8_max_pool=everywhere)
    with torch.no_grad():
        reference, output = converted(x).cpu(), lowered(x).cpu()
    assert output.shape == reference.shape
    assert sqnr(reference, output) > (40 if cpu_has_vnni() else 15)


def test_pools_kept_in_floating_point_give_the_same(monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    converted = quantize(capture(Inceptions(True).eval(), (x,)), x)
    kept = copy.deepcopy(converted)
    keep_max_pools_floating(kept)
    with torch.no_grad():
        assert torch.equal(converted(x), kept(x))
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    monkeypatch.setattr(
        torch._C,
        "_dispatch_has_kernel_for_dispatch_key",
        lambda name, key: name != "quantized::max_pool2d" and has_kernel(name, key),
    )
    lowered = lower(converted, (x,))
    assert "quantized.max_pool2d" not in lowered.compilation.code
    with torch.no_grad():
        assert sqnr(converted(x), lowered(x)) > (40 if cpu_has_vnni() else 15)


class ReadsAConstant(nn.Module):
    """convert_pt2e quantizes the constant itself: its dequantize has no quantize before it."""

    def __init__(self) -> None:
        super().__init__()
        self.of_table, self.of_input = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("table", torch.rand(4, 8) - 0.3)

    def forward(self, x):
        return self.of_input(x) + self.of_table(self.table).sum()


def test_a_constant_activation_is_rewritten_bit_for_bit():
    model, x = ReadsAConstant().eval(), torch.rand(2, 8)
    converted = quantize(capture(model, (x,)), x)
    signed = converted(x)
    assert signed_to_unsigned(converted) == 3
    assert torch.equal(converted(x), signed)
