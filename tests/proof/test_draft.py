from dataclasses import replace

import pytest
import torch
from conftest import Flow, Inceptions, large_on, quantize
from torch import nn
from torchvision.models.densenet import DenseNet

from xpuqlib.material.models import load_model
from xpuqlib.proof import draft as draft_module
from xpuqlib.proof.closeness import flat_output, sqnr
from xpuqlib.proof.draft import Draft, draft_for_xpu
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.proof.simulation import simulate
from xpuqlib.recipe.passes import keep_cats_floating
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)


@pytest.fixture(scope="module")
def resnet_draft(resnet_flow: Flow) -> Draft:
    return draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)


def test_every_layer_of_resnet18_is_an_int8_call(resnet_flow, resnet_draft):
    names = [layer.name for layer in quantizable_layers(resnet_flow.converted)]
    assert sorted(call.layer for call in resnet_draft.calls) == sorted(names)
    assert resnet_draft.compilation.code.count("torch.ops.onednn.qconv") == 20
    assert resnet_draft.compilation.code.count("torch.ops.onednn.qlinear") == 1


def test_a_call_says_what_it_reads_writes_and_adds(resnet_draft):
    calls = {call.layer: call for call in resnet_draft.calls}
    assert {call.reads for call in calls.values()} == {"int8"}
    assert calls["layer1.0.conv1"].writes == "int8"
    assert calls["layer1.0.conv2"].adds == "int8"
    assert calls["layer1.0.conv2"].post_operators == ("sum", "relu")
    assert calls["layer2.0.downsample.0"].post_operators == ()
    assert calls["fc"].writes == "fp32"
    assert len(resnet_draft.table()) == 21


def test_what_stays_in_floating_point_is_counted(resnet_draft):
    assert resnet_draft.in_floating_point() == {"_low_memory_max_pool_with_offsets": 1, "mean": 1}
    assert "_low_memory_max_pool_with_offsets 1 times" in resnet_draft._repr_html_()


def test_max_pool_and_quantize_are_one_kernel_of_the_gpu(resnet_draft):
    [pool] = [name for name in resnet_draft.kernels if "max_pool2d" in name]
    assert "quantize_per_tensor" in pool
    assert "maximum(" in resnet_draft.kernels[pool]
    assert ".to(tl.int8)" in resnet_draft.kernels[pool]
    calls = {call.layer: call for call in resnet_draft.calls}
    assert calls["conv1"].writes == "fp32"  # so no int8 max-pool, and no rewrite


def test_each_call_names_its_own_weight(resnet_draft):
    weights = [call.weight for call in resnet_draft.calls]
    assert len(set(weights)) == 21
    for call in resnet_draft.calls:
        assert resnet_draft.constants[call.weight].dtype == torch.int8


def test_without_freezing_the_program_has_no_int8_call(tiny_flow):
    draft = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs, freezing=False)
    assert draft.calls == ()
    assert "torch.ops.onednn.q" not in draft.compilation.code
    assert draft.kernels


def test_the_batch_size_is_in_the_program(tiny_flow):
    [x] = tiny_flow.inputs
    converted = quantize(capture(tiny_flow.model, (x[:5],)), x[:5])
    assert "(5, 3, 16, 16)" in draft_for_xpu(converted, (x[:5],)).compilation.code


def test_under_autocast_bf16_stands_between_the_calls(tiny_flow):
    draft = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs, bf16_autocast=True)
    assert {call.writes for call in draft.calls} == {"bf16"}
    plain = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    assert {call.writes for call in plain.calls} == {"fp32"}


def test_the_assumed_gpu_is_in_the_program_and_is_named(tiny_flow):
    draft = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs, gpu="arc-a770")
    assert "'has_fp64': False" in draft.compilation.code
    assert "Intel Arc A770" in draft._repr_html_()
    assert "not executed" in draft._repr_html_()


@pytest.mark.slow
@pytest.mark.parametrize(("rewritten", "decibels"), [(True, (40, 200)), (False, (0, 32))])
def test_an_intel_gpu_would_get_int8_max_pools_wrong_without_the_rewrite(
    monkeypatch, rewritten, decibels
):
    torch.manual_seed(0)
    model, x = Inceptions(ceil_mode=False).eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():  # most of the output comes out of the pools
        model.second.branch4[1].conv.weight *= 30
    converted = quantize(capture(model, (x,)), x)
    if not rewritten:
        monkeypatch.setattr(draft_module, "rewrite_for", lambda device, model, *pools: (model, []))
    draft = draft_for_xpu(converted, (x,))
    assert draft.compilation.code.count("= torch.ops.quantized.max_pool2d") > 0
    with torch.no_grad():
        reference = flat_output(converted(x))
    least, most = decibels
    assert least < sqnr(reference, simulate(draft, (x,)).output) < most


def test_a_constant_that_the_model_makes_itself_moves_to_the_gpu():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = torch.zeros(4, 16)
            mask[1:3] = 1.0
            return self.linear(torch.roll(x, 1, 0)) * mask

    torch.manual_seed(0)
    model, x = Shifted().eval(), torch.randn(4, 16)
    draft = draft_for_xpu(quantize(capture(model, (x,)), x), (x,))
    assert len(draft.calls) == 1
    assert "empty_strided_cpu(" not in draft.compilation.code


@pytest.mark.skipif(torch.xpu._is_compiled(), reason="this build chooses its own attention")
def test_attention_is_drafted_and_simulated():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.linear = (
                nn.MultiheadAttention(32, 2, batch_first=True),
                nn.Linear(32, 16),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.attention(x, x, x, need_weights=False)[0])

    torch.manual_seed(0)
    model, x = Attention().eval(), torch.randn(2, 8, 32)
    converted = quantize(capture(model, (x,)), x)
    draft = draft_for_xpu(converted, (x,))
    assert [call.layer for call in draft.calls] == ["linear"]
    assert "scaled_dot_product_fused_attention_overrideable" in draft.compilation.code
    with torch.no_grad():
        assert sqnr(flat_output(converted(x)), simulate(draft, (x,)).output) > 40


def test_the_symmetric_configuration_has_no_zero_points(tiny):
    model, x = tiny
    settings = get_default_xpu_inductor_quantization_config()
    activation = replace(settings.input_activation, qscheme=torch.per_tensor_symmetric)
    quantizer = XPUInductorQuantizer().set_global(
        replace(settings, input_activation=activation, output_activation=activation)
    )
    prepared = prepare_pt2e(capture(model, (x,)), quantizer)
    with torch.no_grad():
        prepared(x)
    draft = draft_for_xpu(convert_pt2e(prepared), (x,))
    assert {call.input_zero_point for call in draft.calls} == {0}
    default = draft_for_xpu(quantize(capture(model, (x,)), x), (x,))
    assert {call.input_zero_point for call in default.calls} != {0}


def check_drafted_whole(model, x, decibels):
    """Each layer has its int8 call, and the simulated program is as close to the Q/DQ graph."""
    converted = quantize(capture(model, (x,)), x)
    draft = draft_for_xpu(converted, (x,))
    names = [layer.name for layer in quantizable_layers(converted)]
    assert sorted(call.layer for call in draft.calls) == sorted(names)
    with torch.no_grad():
        reference = flat_output(converted(x))
    assert sqnr(reference, simulate(draft, (x,)).output) > decibels
    return converted


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mobilenet_v2", marks=large_on("ipex")),
        pytest.param("googlenet", marks=large_on("current")),
    ],
)
def test_other_models_are_drafted_whole(name):
    # An untrained net makes noise stronger.
    check_drafted_whole(load_model(name, "random"), torch.randn(1, 3, 64, 64), decibels=15)


def test_concatenations_of_int8_do_not_stop_a_draft():
    """A DenseNet: before torch 2.15 Inductor's int8 concatenation raises for a GPU."""
    torch.manual_seed(0)
    sizes = {"growth_rate": 16, "block_config": (2, 2), "num_init_features": 16}
    model, x = DenseNet(**sizes, num_classes=10).eval(), torch.randn(2, 3, 64, 64)
    converted = check_drafted_whole(model, x, decibels=25)
    with torch.no_grad():
        reference = converted(x)
        keep_cats_floating(converted)
        assert torch.equal(reference, converted(x))


class Pyramid(nn.Module):
    """A small feature map, scaled up by nearest neighbours and added to a larger one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.large, self.small = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        large = torch.relu(self.first(x))
        small = self.small(torch.max_pool2d(large, 2))
        scaled = nn.functional.interpolate(small, size=large.shape[-2:], mode="nearest")
        return self.last(self.large(large) + scaled)


def test_a_feature_pyramid_is_drafted_and_simulated(monkeypatch):
    # Where it is set, Inductor refuses to call a function that it could decompose.
    monkeypatch.setenv("CI", "true")
    check_drafted_whole(Pyramid().eval(), torch.randn(2, 3, 32, 32), decibels=30)
