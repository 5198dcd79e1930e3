"""What looks like int8 and is none: evidence must raise, and say why."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torchvision
from conftest import export, prepare, quantize
from packaging.version import Version
from torch import nn

from xpuqlib.errors import EvidenceError
from xpuqlib.material.models import load_model
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.recipe.compilation import observe_compilation
from xpuqlib.recipe.lowering import Lowered, lower
from xpuqlib.recipe.passes import signed_to_unsigned
from xpuqlib.recipe.pt2e import capture

RELEASE = Version(torch.__version__).release[:2]
matches_nothing = pytest.mark.skipif(RELEASE > (2, 11), reason="seen on torch 2.8 and 2.11")
since_2_14 = pytest.mark.skipif(RELEASE < (2, 14), reason="seen since torch 2.14")


# The silent failures, numbered as in docs/silent_failures.md: each must raise here.


@matches_nothing
def test_failure_1_non_strict_export_quantizes_nothing(tiny):
    model, x = tiny
    with torch.no_grad():
        captured = export(model, x, strict=False).module()
    converted = quantize(captured, x)
    proof = collect_evidence(model, converted, lower(converted, (x,)), (x,))
    with pytest.raises(EvidenceError, match=r"0 of 2 convs and linears(?s:.*)strict"):
        proof.require_int8()


@since_2_14
def test_failure_2_non_strict_export_raises_where_capture_works():
    model, x = load_model("resnet18"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        captured = export(model, x, strict=False).module()
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


@pytest.mark.slow
@since_2_14
def test_failure_4_a_loaded_program_without_the_passes(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU()).eval()  # the child needs no class of ours
    x = torch.randn(2, 3, 12, 12)
    converted = quantize(capture(model, (x,)), x)
    signed_to_unsigned(converted)
    with torch.no_grad():
        program = export(converted, x)
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
    captured = export(model, x, strict).module()  # with gradients, wrongly
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


@pytest.mark.slow
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
        replace(tiny_flow.evidence, **wrong).require_int8()


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
    proof = replace(tiny_flow.evidence, device=device, **numbers)
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
    proof = tiny_flow.evidence
    layers = tuple(replace(layer, generated=False) for layer in proof.layers)
    with pytest.raises(EvidenceError, match=rf"\(conv, linear\).*{message}"):
        replace(proof, layers=layers, **wrong).require_int8()


def test_partial_quantization_is_not_enough(tiny_flow):
    proof = tiny_flow.evidence
    first, second = proof.layers
    missed = replace(second, quantized=False, reason="the quantizer did not annotate it")
    with pytest.raises(EvidenceError, match=r"Not everything was quantized: 1 of 2"):
        replace(proof, layers=(first, missed)).require_int8()
    replace(proof, layers=(first, missed)).require_int8(but=[second.name])
    with pytest.raises(EvidenceError, match=r"Not everything was quantized: 1 of 2"):
        replace(proof, layers=(first, missed)).require_int8(but=[first.name])
    nothing = replace(first, quantized=False)
    with pytest.raises(EvidenceError, match=r"Nothing was quantized: 0 of 2"):
        replace(proof, layers=(nothing, missed)).require_int8(but=[first.name, second.name])
