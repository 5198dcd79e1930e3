import torch
from conftest import export, patient, quantize
from torch import nn

from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.proof.graph import count_operators, how_to_quantize, quantizable_layers
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 3, 3)
        self.head = nn.Linear(3, 12)

    def forward(self, x):
        return self.head(self.up(self.block(x)).mean((2, 3)))


def test_layers_by_name_with_the_reason_of_what_is_left():
    torch.manual_seed(0)
    model, x = Mixed().eval(), torch.randn(2, 3, 12, 12)
    layers = quantizable_layers(quantize(capture(model, (x,)), x))
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("block.0", "conv"),
        ("up", "conv"),
        ("head", "linear"),
    ]
    assert [layer.scale is not None for layer in layers] == [True, False, True]
    assert layers[0].scale.shape == (16,)
    assert "does not quantize conv_transpose2d" in layers[1].reason


def test_layers_of_nested_graphs_are_found():
    class NoGrad(Mixed):
        forward = torch.no_grad()(Mixed.forward)

    model, x = NoGrad().eval(), torch.randn(2, 3, 12, 12)
    captured = export(model, x).module()
    layers = quantizable_layers(captured)
    assert len(layers) == 3
    assert all("nested graph" in layer.reason for layer in layers if layer.name != "up")


def test_operators_are_counted_most_frequent_first(resnet_flow):
    counts = count_operators(resnet_flow.converted)
    assert counts["quantized_decomposed.quantize_per_tensor.default"] == 23
    assert counts["quantized_decomposed.dequantize_per_tensor.default"] == 31
    assert counts["quantized_decomposed.dequantize_per_channel.default"] == 21
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_linear_layers_inside_of_attention_are_named_with_their_own_reason():
    model, x = Attentive().eval(), torch.randn(2, 5, 16)
    layers = {layer.name: layer for layer in quantizable_layers(quantize(capture(model, (x,)), x))}
    assert list(layers) == ["attention.in_proj", "attention.out_proj", "head"]
    assert [layer.scale is not None for layer in layers.values()] == [False, False, True]
    for name in ("attention.in_proj", "attention.out_proj"):
        assert layers[name].reason.startswith("nn.MultiheadAttention calls it as a function")
        assert "rewrite_attention(model)" in how_to_quantize([layers[name].reason])
    assert "strict export" in how_to_quantize(["the quantizer did not annotate it"])


def test_layers_of_an_encoder_captured_on_the_fast_path_are_named():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad(), patient():
        captured = torch.export.export(layer, (x,), strict=True).module()
    fused = "_transformer_encoder_layer_fwd" in captured.code  # torch 2.8 does not take it
    found = {layer.name: layer.reason for layer in quantizable_layers(captured)}
    if fused:
        assert set(found) == {"self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"}
        assert all("one operator for all of it" in reason for reason in found.values())
        assert "rewrite_attention(model)" in how_to_quantize(found.values())
    else:
        assert all("calls it as a function" in reason for reason in found.values())
    assert len(found) == 4


class ReadsItsOwnTable(nn.Module):
    """What a Swin v2 does for its position bias: a linear layer of a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.of_table, self.of_input = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("table", torch.rand(4, 8))

    def forward(self, x):
        return self.of_input(x) + self.of_table(self.table).sum()


def test_a_layer_of_constants_is_folded_and_named():
    model, x = ReadsItsOwnTable().eval(), torch.rand(2, 8)
    converted = quantize(capture(model, (x,)), x)
    assert {a.name: a.constant for a in quantizable_layers(converted)} == {
        "of_table": True,
        "of_input": False,
    }
    evidence = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    left = evidence.left_in_floating_point()
    assert list(left) == ["of_table"]
    assert "constants only" in left["of_table"]
    evidence.require_int8()
