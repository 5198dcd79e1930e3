import copy

import pytest
import torch
from conftest import quantize
from torch import nn

from xpuqlib.errors import LoweringError
from xpuqlib.models import load_model
from xpuqlib.passes import signed_to_unsigned
from xpuqlib.pt2e import capture


class SharedObservers(nn.Module):
    """A residual addition: both of its inputs and its output share observers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (self.left(x) + self.right(x)).relu() + x
        return self.head(nn.functional.max_pool2d(x, 2).mean((2, 3)))


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
    node = next(n for n in converted.graph.nodes if str(n.target).startswith(
        "quantized_decomposed.quantize_per_tensor"))  # fmt: skip
    with converted.graph.inserting_after(node):
        converted.graph.call_function(torch.ops.aten.neg.default, (node,))
    with pytest.raises(LoweringError, match="do not share"):
        signed_to_unsigned(converted)
    assert node.args[5] == torch.int8
