import torch
from conftest import export, quantize
from torch import nn

from xpuqlib.proof.graph import count_operators, quantizable_layers
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
