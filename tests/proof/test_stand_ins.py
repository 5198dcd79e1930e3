import pytest
import torch

from xpuqlib.errors import DraftError
from xpuqlib.proof import stand_ins as module
from xpuqlib.proof.stand_ins import exact_int8


def test_an_int8_call_is_exact():
    # 3·2 + 5·(-4) = -14 for each output; times 0.5·0.1, plus 0.9, is 0.2: 2 steps of 0.1, plus 7.
    codes = exact_int8(
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
    assert exact_int8(**given).item() == 1  # -3 + 0.5·(9 - 1)
    assert exact_int8(**given | {"accum_scale": 0.25}, unary_attr="relu").item() == 0
    with pytest.raises(DraftError, match="does not know mul"):
        exact_int8(**given | {"binary_attr": "mul"})


def test_what_the_simulation_does_not_know_is_named():
    with pytest.raises(DraftError, match="post-operator softsign"):
        module._post_operator(torch.ones(1), "softsign", (), None)
