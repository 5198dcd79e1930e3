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
    exactly = simulation._exactly
    monkeypatch.setattr(
        simulation,
        "_exactly",
        lambda **given: exactly(**given | {"x_zero_point": given["x_zero_point"] + 1}),
    )
    draft = draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)
    table = compare_codes(
        simulate(draft, resnet_flow.inputs).codes,
        reference_codes(resnet_flow.converted, resnet_flow.inputs),
    )
    assert table["equal"].iloc[0] < 0.9


def test_an_int8_call_is_exact():
    # 3·2 + 5·(-4) = -14 for each output; times 0.5·0.1, plus 0.9, is 0.2: 2 steps of 0.1, plus 7.
    codes = simulation._exactly(
        qx=torch.tensor([[13, 15]], dtype=torch.int8),
        x_scale=0.5,
        x_zero_point=10,
        qw=torch.tensor([[2], [-4]], dtype=torch.int8),
        w_scale=torch.tensor([0.1]),
        bias=torch.tensor([0.9]),
        output_scale=0.1,
        output_zero_point=7,
        output_dtype=torch.int8,
    )
    assert codes.tolist() == [[9]]


def test_a_sum_has_its_own_scale_and_comes_before_the_relu():
    given = {
        "qx": torch.tensor([[1]], dtype=torch.int8),
        "x_scale": 1.0,
        "x_zero_point": 0,
        "qw": torch.tensor([[-3]], dtype=torch.int8),
        "w_scale": torch.tensor([1.0]),
        "bias": None,
        "qaccum": torch.tensor([[9]], dtype=torch.int8),
        "accum_scale": 0.5,
        "accum_zero_point": 1,
        "binary_attr": "sum",
        "output_scale": 1.0,
        "output_zero_point": 0,
        "output_dtype": torch.int8,
    }
    assert simulation._exactly(**given).item() == 1  # -3 + 0.5·(9 - 1)
    assert simulation._exactly(**given | {"accum_scale": 0.25}, unary_attr="relu").item() == 0
    with pytest.raises(DraftError, match="does not know mul"):
        simulation._exactly(**given | {"binary_attr": "mul"})


def test_what_the_simulation_does_not_know_is_named():
    with pytest.raises(DraftError, match="post-operator softsign"):
        simulation._post_operator(torch.ones(1), "softsign", (), None)


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
