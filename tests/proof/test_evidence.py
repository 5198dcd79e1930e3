import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torchvision
from conftest import Flow, prepare, quantize
from packaging.version import Version
from torch import nn

from xpuqlib.errors import EvidenceError
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.material.models import load_model
from xpuqlib.names import MODELS
from xpuqlib.proof.evidence import Evidence, collect_evidence
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.recipe.compilation import observe_compilation
from xpuqlib.recipe.lowering import Lowered, lower
from xpuqlib.recipe.passes import signed_to_unsigned
from xpuqlib.recipe.pt2e import capture, convert_pt2e

RELEASE = Version(torch.__version__).release[:2]
matches_nothing = pytest.mark.skipif(RELEASE > (2, 11), reason="seen on torch 2.8 and 2.11")
since_2_14 = pytest.mark.skipif(RELEASE < (2, 14), reason="seen since torch 2.14")


def evidence_of(flow: Flow) -> Evidence:
    return collect_evidence(flow.model, flow.converted, flow.lowered, flow.inputs)


def test_resnet18_is_proved_layer_by_layer(resnet_flow):
    proof = evidence_of(resnet_flow)
    everything = {"in the model": 20, "quantized": 20, "matched": 20, "generated": 20}
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


def test_mobilenet_v2_is_proved_too():
    torch.manual_seed(0)
    model, x = load_model("mobilenet_v2"), torch.rand(8, 3, 32, 32) * 2 - 1
    converted = quantize(capture(model, (x,)), x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    proof.require_int8()
    assert proof.count("conv", "generated") == 52
    assert proof.count("linear", "generated") == 1


def test_evidence_is_shown_and_recorded(tiny_flow):
    proof = evidence_of(tiny_flow)
    page = proof._repr_html_()
    assert "rehearsed on cpu" in page
    assert "No conv or linear was left in floating point" in page
    values = json.loads(json.dumps(proof.to_dict()))
    assert values["counts"]["conv"]["generated"] == 1
    assert [layer["name"] for layer in values["layers"]] == ["conv", "linear"]


def test_undefined_decibels_are_recorded_as_none(tiny_flow):
    proof = replace(evidence_of(tiny_flow), sqnr_to_reference=float("inf"))
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


# The silent failures, numbered as in the README: each must raise here.


@matches_nothing
def test_failure_1_non_strict_export_quantizes_nothing(tiny):
    model, x = tiny
    with torch.no_grad():
        captured = torch.export.export(model, (x,), strict=False).module()
    converted = quantize(captured, x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    with pytest.raises(EvidenceError, match=r"0 of 2 convs and linears(?s:.*)strict"):
        proof.require_int8()


@since_2_14
def test_failure_2_non_strict_export_raises_where_capture_works():
    model, x = load_model("resnet18"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        captured = torch.export.export(model, (x,), strict=False).module()
    with pytest.raises(ValueError, match="more than one output node"):
        prepare(captured)
    prepare(capture(model, (x,)))


@pytest.mark.parametrize("by", ["lower", "torch.compile"])
def test_failure_3_no_freezing_no_int8(tiny_flow, by):
    model, converted, inputs = tiny_flow.model, tiny_flow.converted, tiny_flow.inputs
    if by == "lower":
        lowered = lower(converted, inputs, freezing=False)
    else:  # the tutorial's own line
        compiled = torch.compile(converted)
        compilation = observe_compilation(compiled, inputs)
        signature = tiny_flow.lowered.signature
        lowered = Lowered(compiled, compilation, signature, inputs[0].device, "reference", ())
    proof = collect_evidence(model, converted, lowered, inputs)
    assert proof.mode == "reference"
    with pytest.raises(EvidenceError, match=r"freezing was off(?s:.*)TORCHINDUCTOR_FREEZING"):
        proof.require_int8()
    proof.require_quantized()  # the graph is quantized all the same


LOAD_ONLY = """
import sys
import torch
import torch._inductor.config
import torch.ao.quantization.fx._decomposed  # the operators of the saved graph, no passes
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.recipe.compilation import observe_compilation
from xpuqlib.recipe.lowering import Lowered
model, x = torch.load(sys.argv[1], weights_only=False)
program = torch.export.load(sys.argv[2]).module()
torch._inductor.config.freezing = True
compiled = torch.compile(program)
compilation = observe_compilation(compiled, (x,))
signature = [(x.shape, x.dtype, x.device)]
lowered = Lowered(compiled, compilation, signature, x.device, "reference", ())
collect_evidence(model, program, lowered, (x,)).require_int8()
"""


@since_2_14
def test_failure_4_a_loaded_program_without_the_passes(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU()).eval()  # the child needs no class of ours
    x = torch.randn(2, 3, 12, 12)
    converted = quantize(capture(model, (x,)), x)
    signed_to_unsigned(converted)
    with torch.no_grad():
        program = torch.export.export(converted, (x,), strict=True)
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((model, x), tmp_path / "model.pt")
    child = subprocess.run(
        [sys.executable, "-c", LOAD_ONLY, tmp_path / "model.pt", tmp_path / "program.pt2"],
        capture_output=True,
        text=True,
    )
    assert child.returncode == 1, child.stderr
    assert "EvidenceError" in child.stderr
    assert "int8 passes were not loaded" in child.stderr


class NoGradForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    @torch.no_grad()
    def forward(self, x):
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("strict", [True, False])
def test_failure_5_no_grad_on_forward(strict):
    torch.manual_seed(0)
    model, x = NoGradForward().eval(), torch.randn(2, 3, 12, 12)
    captured = torch.export.export(model, (x,), strict=strict).module()  # with gradients, wrongly
    try:
        converted = quantize(captured, x)
    except (IndexError, ValueError):
        pass  # the quantizer stopped by itself: not silent
    else:
        proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
        with pytest.raises(EvidenceError, match="Nothing was quantized"):
            proof.require_int8()
    converted = quantize(capture(model, (x,)), x)
    collect_evidence(model, converted, lower(converted, (x,)), (x,)).require_int8()


def test_failure_7_outputs_that_prove_nothing():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(weights=None).eval()
    x = torch.randn(4, 3, 32, 32)
    converted = quantize(capture(model, (x,)), x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    with pytest.raises(EvidenceError, match=r"proves nothing|mostly noise"):
        proof.require_int8()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"varied_output": False}, "all-equal"),
        ({"sqnr_to_fp32": float("nan")}, "non-finite"),
        ({"sqnr_to_fp32": float("inf")}, "non-finite"),
        ({"sqnr_to_fp32": 1.0}, "mostly noise"),
        ({"sqnr_to_reference": 5.0}, "lowering changed the numbers"),
        ({"sqnr_to_reference": float("nan")}, "lowering changed the numbers"),
    ],
)
def test_numbers_that_prove_nothing_raise(tiny_flow, wrong, message):
    with pytest.raises(EvidenceError, match=message):
        replace(evidence_of(tiny_flow), **wrong).require_int8()


@pytest.mark.parametrize(
    ("vnni", "device", "lowering", "quantizing", "least"),
    [
        (True, "cpu", 20.9, 40.0, "30.0"),
        (False, "xpu", 20.9, 40.0, "30.0"),
        (True, "cpu", 20.9, 28.0, "22.0"),  # a net that makes noise stronger
        (True, "cpu", 20.9, 25.0, None),
        (True, "cpu", 9.9, 12.0, "10.0"),
        (False, "cpu", 20.9, 40.0, None),  # sums of products saturate
        (False, "cpu", 9.9, 40.0, "10.0"),
    ],
)
def test_lowering_may_do_no_more_than_rounding(
    tiny_flow, monkeypatch, vnni, device, lowering, quantizing, least
):
    monkeypatch.setattr("xpuqlib.proof.evidence.cpu_has_vnni", lambda: vnni)
    numbers = {"sqnr_to_reference": lowering, "sqnr_reference_to_fp32": quantizing}
    proof = replace(evidence_of(tiny_flow), device=device, **numbers)
    if least is None:
        proof.require_int8()
    else:
        with pytest.raises(EvidenceError, match=f"{lowering} dB from the .* not at least {least}:"):
            proof.require_int8()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "patterns did not match"),
        ({"device": "cuda"}, "floating-point reference"),
        ({"passes_loaded": False}, "passes were not loaded"),
    ],
)
def test_a_missing_kernel_is_explained(tiny_flow, wrong, message):
    proof = evidence_of(tiny_flow)
    layers = tuple(replace(layer, generated=False) for layer in proof.layers)
    with pytest.raises(EvidenceError, match=rf"\(conv, linear\).*{message}"):
        replace(proof, layers=layers, **wrong).require_int8()


def test_partial_quantization_is_not_enough(tiny_flow):
    proof = evidence_of(tiny_flow)
    first, second = proof.layers
    missed = replace(second, quantized=False, reason="the quantizer did not annotate it")
    with pytest.raises(EvidenceError, match=r"Not everything was quantized: 1 of 2"):
        replace(proof, layers=(first, missed)).require_int8()


def test_what_runs_between_the_int8_kernels_is_named(resnet_flow):
    kernels = evidence_of(resnet_flow).other_kernels
    assert any("mean" in kernel for kernel in kernels)  # the average pooling before the linear
    assert any("quantize_per_tensor" in kernel for kernel in kernels)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_kit_is_quantized_whole(name):
    torch.manual_seed(0)
    model, x = load_model(name, "random"), torch.randn(2, 3, 64, 64)
    layers = quantizable_layers(quantize(capture(model, (x,)), x))
    expected = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == len(expected)
    assert all(layer.scale is not None for layer in layers)


def test_no_call_is_counted_for_two_layers(tiny_flow):
    compilation = tiny_flow.lowered.compilation
    once = replace(compilation, generated=compilation.generated[:1])
    lowered = replace(tiny_flow.lowered, compilation=once)
    proof = collect_evidence(tiny_flow.model, tiny_flow.converted, lowered, tiny_flow.inputs)
    assert [layer.generated for layer in proof.layers] == [True, False]


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
