from dataclasses import replace

import pytest
import torch
from conftest import quantize

from xpuqlib.errors import DraftError
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.proof import simulation
from xpuqlib.proof.closeness import flat_output, sqnr
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.simulation import (
    compare_codes,
    reference_codes,
    rehearsed_codes,
    simulate,
)
from xpuqlib.recipe.pt2e import capture

with_vnni = pytest.mark.skipif(not cpu_has_vnni(), reason="without VNNI the CPU saturates sums")


@pytest.fixture(scope="module")
def resnet_simulation(resnet_flow):
    draft = draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)
    return simulate(draft, resnet_flow.inputs)


def test_the_simulation_is_as_close_to_fp32_as_the_graph(resnet_flow, resnet_simulation):
    with torch.no_grad():
        outputs = [
            flat_output(m(*resnet_flow.inputs)) for m in (resnet_flow.model, resnet_flow.converted)
        ]
    fp32, reference = outputs
    simulated = sqnr(fp32, resnet_simulation.output)
    # Both round at the same places; which way a value at the middle falls is chance.
    assert simulated == pytest.approx(sqnr(fp32, reference), abs=1.0)
    assert sqnr(reference, resnet_simulation.output) > 40


def test_its_codes_are_those_of_the_graph_but_for_rounding(resnet_flow, resnet_simulation):
    codes = resnet_simulation.codes
    table = compare_codes(codes, reference_codes(resnet_flow.converted, resnet_flow.inputs))
    assert len(table) == 19  # conv1 and fc write floating point
    # The first layers have the same input: only sums that fall in the middle may differ.
    assert table["equal"].iloc[0] > 0.999
    assert table["largest"].iloc[0] <= 1
    assert table["equal"].min() > 0.8  # what differs in one layer goes on into the next


@with_vnni
def test_its_codes_are_those_of_the_cpus_own_kernels(resnet_flow, resnet_simulation):
    table = compare_codes(
        resnet_simulation.codes, rehearsed_codes(resnet_flow.converted, resnet_flow.inputs)
    )
    assert len(table) == 19
    assert table["equal"].iloc[0] > 0.999
    assert table["equal"].min() > 0.8  # what differs in one layer goes on into the next


def test_a_wrong_zero_point_is_seen(resnet_flow, monkeypatch):
    exactly = simulation.exact_int8
    monkeypatch.setattr(
        simulation,
        "exact_int8",
        lambda **given: exactly(**given | {"x_zero_point": given["x_zero_point"] + 1}),
    )
    draft = draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)
    table = compare_codes(
        simulate(draft, resnet_flow.inputs).codes,
        reference_codes(resnet_flow.converted, resnet_flow.inputs),
    )
    assert table["equal"].iloc[0] < 0.9


def test_inputs_of_another_shape_are_refused(tiny_flow):
    draft = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    with pytest.raises(DraftError, match=r"\[8, 3, 16, 16\](?s:.*)\[4, 3, 16, 16\]"):
        simulate(draft, (torch.randn(4, 3, 16, 16),))


def test_another_constant_gives_another_output(tiny_flow):
    draft = draft_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    weight = draft.calls[0].weight
    changed = replace(draft, constants=draft.constants | {weight: -draft.constants[weight]})
    outputs = [simulate(d, tiny_flow.inputs).output for d in (draft, changed)]
    assert sqnr(*outputs) < 20


def test_under_autocast_the_simulation_runs_in_bf16(tiny):
    model, x = tiny
    converted = quantize(capture(model, (x,)), x)
    draft = draft_for_xpu(converted, (x,), bf16_autocast=True)
    with torch.no_grad():
        reference = flat_output(converted(x))
    # bfloat16 has 8 bits of significand: a rounding error of 2**-9 at most, 54 dB.
    assert 35 < sqnr(reference, simulate(draft, (x,)).output) < 70


@pytest.mark.xpu
def test_its_codes_are_those_of_the_gpus_own_kernels(resnet_flow, resnet_simulation):
    draft = draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)
    constants = {name: value.to("xpu") for name, value in draft.constants.items()}
    gpu = simulation._Interpreter(draft.graph, constants, None)
    with torch.no_grad():
        gpu.run(*(value.to("xpu") for value in resnet_flow.inputs))
    codes = {
        call.layer: gpu.written[call.weight].cpu()
        for call in draft.calls
        if call.weight in gpu.written
    }
    table = compare_codes(resnet_simulation.codes, codes)
    assert len(table) == 19
    assert table["equal"].iloc[0] > 0.999  # the same input: only rounding can differ
    assert table["equal"].min() > 0.8
