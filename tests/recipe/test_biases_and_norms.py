"""Exact rewrites of `xpuqlib.recipe.passes` around the bias of a layer and the norm behind it."""

import copy

import pytest
import torch
from conftest import prepare, quantize
from torch import nn

from xpuqlib.proof.closeness import sqnr
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.passes import fold_changed_biases, keep_batch_norms
from xpuqlib.recipe.pt2e import capture


class ChangedBias(nn.Module):
    """As in Swin v2: a copy of the bias, of which a part is set to zero at each call."""

    def __init__(self, reads: str = "") -> None:
        super().__init__()
        self.first, self.second, self.reads = nn.Linear(8, 8), nn.Linear(8, 4), reads

    def forward(self, x):
        bias = self.first.bias.clone()
        bias[2:5].zero_()
        if self.reads == "the input":
            bias[5:] += x.sum()
        x = nn.functional.linear(x, self.first.weight, bias)
        x = x + bias.sum() if self.reads == "the copy" else x
        return self.second(x.relu())


def test_a_changed_bias_is_computed_once_and_then_its_layer_is_int8():
    torch.manual_seed(0)
    model, x = ChangedBias().eval(), torch.randn(16, 8)
    converted = quantize(capture(model, (x,)), x)
    folded = copy.deepcopy(converted)
    assert fold_changed_biases(folded) == 1
    assert not any(node.target is torch.ops.aten.zero_.default for node in folded.graph.nodes)
    with torch.no_grad():
        for inputs in (x, 5 * x):
            assert torch.equal(converted(inputs), folded(inputs))
    assert fold_changed_biases(folded) == 0
    lowered = lower(converted, (x,))  # torch 2.15 raises without the fold
    assert "1 biases computed once, exactly" in lowered.notes
    evidence = collect_evidence(model, converted, lowered, (x,))
    assert [layer.generated for layer in evidence.layers] == [True, True]


@pytest.mark.parametrize("reads", ["the input", "the copy"])
def test_a_bias_that_is_more_than_a_constant_is_left_alone(reads):
    torch.manual_seed(0)
    x = torch.randn(16, 8)
    captured = capture(ChangedBias(reads).eval(), (x,))
    assert fold_changed_biases(captured) == 0


class ReadTwice(nn.Module):
    """As in MaxViT: a shortcut reads what a batch norm reads; or others read a parameter."""

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.conv, self.norm, self.reads = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), reads
        self.alone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        for norm in (self.norm, self.alone[1]):
            nn.init.uniform_(norm.running_mean, 1, 2)
            nn.init.uniform_(norm.running_var, 5, 9)

    def forward(self, x):
        y = self.conv(x)
        others = {
            "output": lambda: y,
            "another call": lambda: self.conv(x + 1),
            "weight": lambda: self.conv.weight.abs().sum(),
            "bias": lambda: self.conv.bias.abs().sum(),
        }
        return self.alone(self.norm(y) + others[self.reads]())


@pytest.mark.parametrize("reads", ["output", "another call", "weight", "bias"])
def test_a_batch_norm_is_not_folded_where_others_would_see_it(reads):
    torch.manual_seed(0)
    model, x = ReadTwice(reads).eval(), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = model(x)
        captured = capture(model, (x,))
        assert torch.equal(captured(x), expected)
        prepared = prepare(captured)
        assert sqnr(expected, prepared(x)) > 100  # observers change no value
        names = [str(node.target) for node in prepared.graph.nodes]
        assert sum("batch_norm" in name for name in names) == 1  # the other one is folded
        # Without it, and as upstream has it until torch 2.15:
        raw = torch.export.export(model, (x,), strict=True).module()
        assert sqnr(expected, prepare(raw)(x)) < 20
        assert keep_batch_norms(torch.export.export(model, (x,), strict=True).module()) == 1
