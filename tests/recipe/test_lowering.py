import os
import subprocess
import sys
from unittest import mock

import pytest
import torch
from conftest import DEVICES, quantize
from torch import nn

from xpuqlib.errors import LoweringError, XpuqWarning
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.proof.closeness import sqnr
from xpuqlib.recipe.lowering import lower, rewrite_for
from xpuqlib.recipe.pt2e import capture


def test_cpu_lowering_says_what_it_is(tiny_flow):
    lowered = tiny_flow.lowered
    assert lowered.mode == "rehearsed"
    assert lowered.notes[0] == "cpu: 4 int8 activation nodes rewritten as uint8, exactly"
    operators = [call.operator for call in lowered.compilation.generated]
    assert operators == ["qconv_pointwise", "qlinear_pointwise"]
    assert lowered.compilation.freezing
    assert lowered.compilation.seconds > 0


def test_lowering_leaves_the_converted_model_alone(tiny):
    model, x = tiny
    converted = quantize(capture(model, (x,)), x)
    before = converted.code
    lower(converted, (x,))
    assert converted.code == before


def test_int8_max_pool_is_the_same_and_can_be_switched_off(resnet_flow):
    with_pass, x = resnet_flow.lowered, resnet_flow.inputs
    assert "1 max-pool quantized before instead of after, exactly" in with_pass.notes
    without = lower(resnet_flow.converted, x, int8_max_pool=False)
    assert not any("max-pool" in note for note in without.notes)
    assert torch.equal(with_pass(*x), without(*x))


def test_another_shape_is_an_error_not_a_silent_compilation(tiny_flow):
    with pytest.raises(
        LoweringError, match=r"Lowered for \[8, 3, 16, 16\] torch.float32 on cpu, called"
    ):
        tiny_flow.lowered(tiny_flow.inputs[0][:2])
    with pytest.raises(LoweringError, match=r"called with .* torch.float64"):
        tiny_flow.lowered(tiny_flow.inputs[0].double())


@pytest.mark.parametrize("forget", ["export", "reset"])
def test_what_dynamo_forgets_is_compiled_to_int8_again(tiny, forget):
    model, x = tiny
    lowered = lower(quantize(capture(model, (x,)), x), (x,))
    before = lowered(x)
    counters = torch._dynamo.utils.counters["inductor"]
    counters.clear()
    if forget == "export":
        capture(model, (x,))
    else:
        torch._dynamo.reset()
    assert torch.equal(lowered(x), before)
    # On torch 2.8 an export does not make Dynamo forget; whatever is compiled again is int8.
    compiled_again = forget == "reset" or bool(counters)
    assert counters["qconv_weight_prepack_matcher_count"] == compiled_again
    counters.clear()
    lowered(x)
    assert not counters  # and only once


def test_lowering_twice_keeps_the_first_one_alive(tiny):
    model, x = tiny
    first = lower(quantize(capture(model, (x,)), x), (x,))
    lower(model, (x,))
    with torch.enable_grad():  # gradients switched on outside must not compile it again either
        assert torch.equal(first(x), first(x))


def test_a_float_model_is_a_reference(tiny):
    model, x = tiny
    lowered = lower(model, (x,))
    assert lowered.mode == "reference"
    assert lowered.compilation.generated == ()
    assert lowered.notes == ()
    torch.testing.assert_close(lowered(x), model(x))


def test_a_cpu_without_vnni_says_what_it_does(monkeypatch, tiny):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # oneDNN has read it already: only we see it
    model, x = tiny
    converted = quantize(capture(model, (x,)), x)
    with pytest.warns(XpuqWarning, match="saturate at 16 bits"):
        lowered = lower(converted, (x,))
    assert "cpu without VNNI" in lowered.notes[-1]


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_autocast_belongs_to_what_was_lowered(tiny, device):
    model, x = (value.to(device) for value in tiny)
    converted = quantize(capture(model, (x,)), x)
    mixed = lower(converted, (x,), bf16_autocast=True)
    plain = lower(converted, (x,))
    assert (mixed(x).dtype, plain(x).dtype) == (torch.bfloat16, torch.float32)
    counters = torch._dynamo.utils.counters["inductor"]
    counters.clear()
    with torch.autocast(device, torch.bfloat16):  # what stands around the call changes nothing
        assert (mixed(x).dtype, plain(x).dtype) == (torch.bfloat16, torch.float32)
    assert not counters  # and compiles nothing
    assert "compiled and run under autocast to bfloat16" in mixed.notes
    # bfloat16 keeps 8 significant bits, an error of up to 0.4 %, which can move a code by one;
    # without VNNI the kernels saturate, each in its own places.
    assert sqnr(plain(x).cpu(), mixed(x).cpu()) > (30 if cpu_has_vnni() else 10)


def test_a_cpu_without_bf16_says_that_speed_means_nothing(monkeypatch, tiny):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")  # only we see it, as above
    model, x = tiny
    assert "speed of bf16 means nothing" in lower(model, (x,), bf16_autocast=True).notes[-1]


@pytest.mark.xpu
def test_xpu_executes_int8(tiny):
    model, x = (value.to("xpu") for value in tiny)
    lowered = lower(quantize(capture(model, (x,)), x), (x,))
    assert lowered.mode == "executed"
    assert len(lowered.compilation.generated) == 2


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_graph_can_be_lowered_in_two_ways(tiny, device):
    model, x = (value.to(device) for value in tiny)
    converted = quantize(capture(model, (x,)), x)
    first = lower(converted, (x,), freezing=False)
    second = lower(converted, (x,))
    assert not first.compilation.freezing
    assert second.compilation.freezing == (device != "cuda")
    assert second.compilation.code


def test_where_no_int8_kernel_is_made_a_cpu_keeps_the_signed_codes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 8, 1)).eval()
    x = torch.randn(2, 3, 12, 12)
    converted = quantize(capture(model, (x,)), x)
    signed, notes = rewrite_for("cpu", converted, freezing=False)
    assert "torch.uint8" not in signed.code
    assert "clamp_min" in signed.code  # torch has no int8 max-pool for signed codes on a CPU
    assert notes == []
    asked, _ = rewrite_for("cpu", converted, int8_max_pool=True, freezing=False)
    assert "torch.uint8" in asked.code


@pytest.mark.parametrize("device", DEVICES[1:])
def test_by_default_a_max_pool_is_rewritten_on_a_cpu_only(device):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 1))
    model, x = model.eval().to(device), torch.randn(2, 3, 12, 12, device=device)
    converted = quantize(capture(model, (x,)), x)
    lowered = lower(converted, (x,))
    assert not any("max-pool" in note for note in lowered.notes)
    assert torch.isfinite(lowered(x)).all()


@pytest.mark.xpu
def test_an_xpu_can_pool_int8_when_asked():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 1))
    model, x = model.eval().to("xpu"), torch.randn(2, 3, 12, 12, device="xpu")
    converted = quantize(capture(model, (x,)), x)
    with_pass = lower(converted, (x,), int8_max_pool=True)
    assert any("max-pool" in note for note in with_pass.notes)
    assert torch.equal(with_pass(x), lower(converted, (x,))(x))


def test_an_int8_max_pool_without_a_kernel_is_an_error(monkeypatch, tiny):
    model, x = tiny
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda *_: False)
    with pytest.raises(LoweringError, match=r"no quantized::max_pool2d for cpu(?s:.*)away"):
        lower(model, (x,), int8_max_pool=True)


@pytest.mark.cuda
def test_cuda_is_a_reference_without_freezing(tiny):
    model, x = (value.to("cuda") for value in tiny)
    converted = quantize(capture(model, (x,)), x)
    lowered = lower(converted, (x,))
    assert lowered.mode == "reference"
    assert not lowered.compilation.freezing
    # Triton sums in another order; an activation on an edge may move by one int8 step.
    torch.testing.assert_close(lowered(x), converted(x), atol=0.02, rtol=0)


FLOAT_MODEL = """
import torch
from xpuqlib.recipe.lowering import lower, rewrite_for
torch.manual_seed(0)
model, x = torch.nn.Linear(3, 4).eval(), torch.ones(2, 3)
compilation = lower(model, (x,), freezing=False).compilation
assert compilation.code
assert "fxgraph_cache_hit" not in compilation.counters
"""


@pytest.mark.slow
def test_a_warm_cache_does_not_take_the_proof_away(tmp_path):
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", FLOAT_MODEL], capture_output=True, text=True, env=env
        )
        assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("suppressed", [False, True])
def test_a_compilation_that_fails_is_our_error(monkeypatch, tiny, suppressed):
    model, x = tiny
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)}),
        torch._dynamo.config.patch(suppress_errors=suppressed),
        pytest.raises(LoweringError, match=r"cannot compile(?s:.*)xpuq doctor"),
    ):
        lower(nn.Sequential(model, nn.Softplus(beta=1.2345)), (x + 1,))


def test_a_compiled_model_that_fails_at_its_first_call_is_our_error(monkeypatch, tiny):
    # As torch 2.15 does with bf16 where a layer in floating point follows an addition in place.
    def fails(compiled, inputs):
        raise RuntimeError("Cannot access data pointer\nException raised from")

    monkeypatch.setattr("xpuqlib.recipe.lowering.observe_compilation", fails)
    wrong = r"first call on cpu: Cannot access data pointer\n(?s:.*)without bf16_autocast"
    with pytest.raises(LoweringError, match=wrong):
        lower(tiny[0], (tiny[1],))


def test_a_call_that_compiles_nothing_configures_nothing(tiny):
    # Patching Inductor's configuration at each call took 13 % of ResNet-18's time at batch 1.
    model, x = tiny
    lowered = lower(quantize(capture(model, (x,)), x), (x,))
    config = type(torch._inductor.config)
    watched = mock.patch.object(config, "patch", autospec=True, side_effect=config.patch)
    with watched as patch:
        lowered(x)
        patch.assert_not_called()
        torch._dynamo.reset()
        lowered(x)
    assert mock.call(torch._inductor.config, freezing=True) in patch.mock_calls


def test_suppressed_errors_do_not_bring_floating_point_back(tiny):
    model, x = tiny
    lowered = lower(quantize(capture(model, (x,)), x), (x,))
    before = lowered(x)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters["inductor"]
    counters.clear()
    with torch._dynamo.config.patch(suppress_errors=True):
        assert torch.equal(lowered(x), before)  # Dynamo asked under another freezing
        assert counters["qconv_weight_prepack_matcher_count"] == 1
        counters.clear()
        lowered(x)
        assert not counters


@pytest.mark.parametrize("around", [False, True])
def test_freezing_around_the_call_changes_nothing(tiny, around):
    model, x = tiny
    converted = quantize(capture(model, (x,)), x)
    counters = torch._dynamo.utils.counters["inductor"]
    for freezing in (False, True):
        lowered = lower(converted, (x,), freezing=freezing)
        before = lowered(x)
        torch._dynamo.reset()
        counters.clear()
        with torch._inductor.config.patch(freezing=around):
            assert torch.equal(lowered(x), before)
        assert counters["qconv_weight_prepack_matcher_count"] == freezing


def test_many_models_of_one_class_are_lowered():
    for width in range(2, 13):  # Dynamo's own limit is eight
        model = nn.Sequential(nn.Linear(width, 4)).eval()
        lowered = lower(model, (torch.rand(2, width),))
        assert lowered.compilation.code
