"""Families of torchvision: each conv and linear layer has an int8 call in the draft."""

import pytest
import torch
from conftest import large_on, quantize

from xpuqlib.material.models import load_model
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.proof.graph import match_calls, quantizable_layers
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture

# Convolutions and linear layers of each, counted in torchvision's code by its modules.
FAMILIES = {"convnext_tiny": 59, "efficientnet_b0": 82}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("convnext_tiny", marks=large_on("current")),
        pytest.param("efficientnet_b0", marks=large_on("ipex")),  # test_map.py has it on current
    ],
)
def test_every_layer_is_quantized_and_drafted(name):
    model, x = load_model(name, "random"), torch.rand(2, 3, 64, 64)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    converted = quantize(capture(model, (x,)), x)
    found = quantizable_layers(converted)
    calls = match_calls(found, draft_for_xpu(converted, (x,)).compilation.generated)
    assert len(found) == len(layers)
    assert [layer.name for layer in found if layer.scale is None] == []
    assert [layer.name for layer, call in zip(found, calls, strict=True) if not call] == []


@pytest.mark.slow
def test_the_evidence_of_a_squeezenet_is_complete():
    model, x = load_model("squeezenet1_1", "random"), torch.rand(4, 3, 64, 64)
    converted = quantize(capture(model, (x,)), x)
    evidence = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    evidence.require_int8()
    stages = ("in the model", "quantized", "matched", "generated", "drafted")
    assert evidence.counts()["conv"] == dict.fromkeys(stages, 26)
    assert evidence.left_in_floating_point() == {}
