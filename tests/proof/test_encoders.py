"""Transformers of full depth: each linear layer gets an int8 call, or is named with the reason."""

import pytest
import torch
import torchvision
from conftest import large_on, quantize
from torch import nn

from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.graph import match_calls, quantizable_layers
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.pt2e import capture


class Bert(nn.Module):
    """Twelve encoder layers over words, as in BERT, narrower; padding is masked."""

    def __init__(self, words=100, width=96, heads=6, layers=12):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pooler = nn.Linear(width, width)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.places(places)
        x = self.encoder(x, src_key_padding_mask=tokens == 0)
        return self.pooler(x[:, 0]).tanh()


def with_random_head(name, **settings):
    """Build it of torchvision; its head begins as zeros, which would prove nothing."""
    model = torchvision.models.get_model(name, weights=None, **settings)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    return model


CASES = {
    "vit_b_16": (lambda: with_random_head("vit_b_16", image_size=32), (2, 3, 32, 32), 49, 24),
    "swin_t": (lambda: with_random_head("swin_t"), (1, 3, 64, 64), 52, 0),
    "bert": (Bert, (2, 16), 49, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vit_b_16", marks=large_on("ipex")),
        pytest.param("swin_t", marks=large_on("current")),
        "bert",
    ],
)
def test_every_linear_layer_is_int8_or_named(name):
    build, shape, linears, hidden = CASES[name]
    torch.manual_seed(0)
    model = build().eval()
    images = len(shape) > 2
    x = torch.randn(shape) if images else torch.randint(1, 100, shape)
    layers = quantizable_layers(capture(model, (x,)))
    assert sum(layer.kind == "linear" for layer in layers) == linears
    # Swin's own attention calls F.linear twice under one path, which the quantizer does see.
    assert name == "swin_t" or len({layer.name for layer in layers}) == len(layers)
    plain = quantizable_layers(quantize(capture(model, (x,)), x))
    left = [layer for layer in plain if layer.scale is None]
    assert all("calls it as a function" in layer.reason for layer in left)
    assert hidden in (None, len(left))  # torch 2.8 hides all of an nn.TransformerEncoder

    rewritten = rewrite_attention(model)
    with torch.no_grad():
        torch.testing.assert_close(rewritten(x), model(x), rtol=1e-4, atol=1e-5)  # other sums
    converted = quantize(capture(rewritten, (x,)), x)
    layers = quantizable_layers(converted)
    assert [layer.name for layer in layers if layer.scale is None] == []
    assert sum(layer.kind == "linear" for layer in layers) == linears
    calls = match_calls(layers, draft_for_xpu(converted, (x,)).compilation.generated)
    assert [layer.name for layer, call in zip(layers, calls, strict=True) if call is None] == []
