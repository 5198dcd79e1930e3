"""The evidence: each layer followed to its kernel, shown, recorded."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import quantize
from torch import nn

from xpuqlib.errors import DraftError, EvidenceError
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.material.models import load_model
from xpuqlib.proof import evidence
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture


def test_resnet18_is_proved_layer_by_layer(resnet_flow):
    proof = resnet_flow.evidence
    stages = ("in the model", "quantized", "matched", "generated", "drafted")
    everything = dict.fromkeys(stages, 20)
    assert proof.counts() == {"conv": everything, "linear": dict.fromkeys(everything, 1)}
    assert proof.matcher_counts == {"conv": 20, "linear": 1}
    expected = [
        n for n, m in resnet_flow.model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    assert sorted(layer.name for layer in proof.layers) == sorted(expected)
    assert proof.left_in_floating_point() == {}
    assert proof.mode == "rehearsed"
    # Saturating 16-bit sums cost about 20 dB where there is no VNNI.
    assert proof.sqnr_to_fp32 > (30 if cpu_has_vnni() else 15)
    assert proof.sqnr_to_reference > (40 if cpu_has_vnni() else 15)
    assert proof.sqnr_reference_to_fp32 > 30  # no kernel, nothing saturates
    proof.require_int8()


@pytest.mark.slow
def test_mobilenet_v2_is_proved_too():
    torch.manual_seed(0)
    model, x = load_model("mobilenet_v2"), torch.rand(8, 3, 32, 32) * 2 - 1
    converted = quantize(capture(model, (x,)), x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    proof.require_int8()
    assert proof.count("conv", "generated") == 52
    assert proof.count("linear", "generated") == 1


def test_evidence_is_shown_and_recorded(tiny_flow):
    proof = tiny_flow.evidence
    page = proof._repr_html_()
    assert "rehearsed on cpu" in page
    assert "No conv or linear was left in floating point" in page
    values = json.loads(json.dumps(proof.to_dict()))
    assert values["counts"]["conv"]["generated"] == 1
    assert [layer["name"] for layer in values["layers"]] == ["conv", "linear"]


def test_a_call_that_the_program_for_the_gpu_lacks_is_named(tiny_flow):
    whole = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    kept = tuple(c for c in whole.compilation.generated if "qconv" not in c.operator)
    lacking = replace(whole, compilation=replace(whole.compilation, generated=kept))
    proof = collect_evidence(
        tiny_flow.model, tiny_flow.converted, tiny_flow.lowered, tiny_flow.inputs, lacking
    )
    assert proof.counts()["conv"]["drafted"] == 0
    assert proof.counts()["linear"]["drafted"] == 1
    with pytest.raises(
        EvidenceError, match=r"1 quantized layers(?s:.*)drafted for Intel(?s:.*)conv"
    ):
        proof.require_int8()


def test_without_freezing_nothing_is_drafted_either(tiny_flow):
    lowered = lower(tiny_flow.converted, tiny_flow.inputs, freezing=False)
    proof = collect_evidence(tiny_flow.model, tiny_flow.converted, lowered, tiny_flow.inputs)
    assert proof.drafted_for
    assert {kind: n["drafted"] for kind, n in proof.counts().items()} == {"conv": 0, "linear": 0}


def test_what_cannot_be_drafted_is_said_and_not_counted(tiny_flow, monkeypatch):
    def fails(*args, **settings):
        raise DraftError("This torch cannot.", "Take another.")

    monkeypatch.setattr(evidence, "draft_for_xpu", fails)
    proof = collect_evidence(
        tiny_flow.model, tiny_flow.converted, tiny_flow.lowered, tiny_flow.inputs
    )
    assert "drafted" not in proof.counts()["conv"]
    assert "Not drafted for an Intel GPU: This torch cannot." in proof._repr_html_()
    assert proof.to_dict()["not_drafted"] == "This torch cannot."
    proof.require_int8()  # what is known holds


def test_undefined_decibels_are_recorded_as_none(tiny_flow):
    proof = replace(tiny_flow.evidence, sqnr_to_reference=float("inf"))
    assert proof.to_dict()["sqnr_to_reference"] is None


def test_a_layer_left_in_floating_point_is_named_with_its_reason():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.ConvTranspose2d(16, 4, 3)).eval()
    x = torch.randn(2, 3, 12, 12)
    converted = quantize(capture(model, (x,)), x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    assert proof.left_in_floating_point() == {
        "2": "XPUInductorQuantizer does not quantize conv_transpose2d"
    }
    assert "does not quantize" in proof._repr_html_()
    proof.require_int8()  # what was quantized runs in int8, and the rest is said


def test_what_runs_between_the_int8_kernels_is_named(resnet_flow):
    kernels = resnet_flow.evidence.other_kernels
    assert any("mean" in kernel for kernel in kernels)  # the average pooling before the linear
    assert any("quantize_per_tensor" in kernel for kernel in kernels)


def test_no_call_is_counted_for_two_layers(tiny_flow):
    compilation = tiny_flow.lowered.compilation
    once = replace(compilation, generated=compilation.generated[:1])
    lowered = replace(tiny_flow.lowered, compilation=once)
    proof = collect_evidence(tiny_flow.model, tiny_flow.converted, lowered, tiny_flow.inputs)
    assert [layer.generated for layer in proof.layers] == [True, False]


@pytest.mark.slow
def test_attention_that_is_not_quantized_is_named_and_the_rewrite_is_the_fix():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(4, 5, 16)
    proofs = []
    for model in (layer, rewrite_attention(layer)):
        converted = quantize(capture(model, (x,)), x)
        proofs.append(collect_evidence(model, converted, lower(converted, (x,)), (x,)))
    plain, rewritten = proofs
    left = plain.left_in_floating_point()
    assert {"self_attn.in_proj", "self_attn.out_proj"} <= set(left)
    assert all("calls it as a function" in reason for reason in left.values())
    with pytest.raises(EvidenceError, match=r"in_proj: nn\.(?s:.*)rewrite_attention\(model\)"):
        plain.require_quantized()
    rewritten.require_int8()
    assert rewritten.count("linear", "generated") == plain.count("linear") == 4
