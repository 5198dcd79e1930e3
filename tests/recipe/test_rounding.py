import pytest
import torch
from conftest import prepare
from torch import nn

from xpuqlib.errors import SensitivityError
from xpuqlib.recipe.pt2e import capture
from xpuqlib.recipe.rounding import ROUNDING_ALONE, quantizer_errors
from xpuqlib.recipe.switches import Switchable


def errors_of(model: nn.Module, shown: torch.Tensor, measured: torch.Tensor):
    prepared = prepare(capture(model.eval(), (shown,)))
    with torch.no_grad():
        prepared(shown)
    table = quantizer_errors(Switchable(prepared), [measured, (measured,)])
    return table.set_index("kind")


@pytest.fixture
def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 16, 5)


def test_where_rounding_is_all_there_is_the_ratio_is_0_29(conv):
    x = torch.rand(8, 3, 16, 16) * 2 - 1
    table = errors_of(conv, x, x)
    assert table.loc["activation", "RMSE / step"] == pytest.approx(ROUNDING_ALONE, rel=0.03)
    assert table.loc["weight", "RMSE / step"] == pytest.approx(ROUNDING_ALONE, rel=0.1)
    assert (table["clipped"] < 0.001).all()  # a histogram observer leaves out a few
    assert table.loc["weight", "largest / step"] == pytest.approx(127.5, abs=0.6)


def test_clipping_makes_it_larger(conv):
    x = torch.rand(8, 3, 16, 16) * 2 - 1
    table = errors_of(conv, x, x * 2)
    assert table.loc["activation", "RMSE / step"] > 10
    assert table.loc["activation", "clipped"] == pytest.approx(0.5, abs=0.05)
    assert table.loc["weight", "clipped"] == 0


def test_one_large_channel_makes_the_rest_zero(conv):
    x = torch.rand(8, 3, 16, 16) * 2 - 1
    x[:, 0] *= 1000
    table = errors_of(conv, x, x)
    assert table.loc["activation", "becomes zero"] == pytest.approx(2 / 3, abs=0.02)
    assert table.loc["activation", "RMSE / step"] < 0.8 * ROUNDING_ALONE


def test_a_value_with_two_readers_is_one_row(tiny):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.a(x) + self.b(x).relu()

    table = errors_of(Two(), tiny[1], tiny[1])
    assert table.loc["activation", "layer"] == "a, b"
    assert sorted(table.loc["weight", "layer"]) == ["a", "b"]


def test_no_batches_are_refused(conv):
    x = torch.rand(8, 3, 16, 16)
    prepared = prepare(capture(conv.eval(), (x,)))
    with torch.no_grad():
        prepared(x)
    with pytest.raises(SensitivityError, match="no batches"):
        quantizer_errors(Switchable(prepared), [])
