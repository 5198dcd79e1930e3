import pytest
import torch
from conftest import check_readable

from xpuqlib.show.smoothing import ALPHAS, draw_channel_ranges, explore_smoothing


@pytest.fixture(scope="module")
def layer():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 50, 32, generator=generator)
    x[..., 3] *= 64
    return x, torch.randn(16, 32, generator=generator)


def test_ranges_by_channel(layer):
    x, w = layer
    ranges = {"x": x.abs().amax((0, 1)), "w": w.abs().amax(0)}
    figure = draw_channel_ranges(ranges, "Ranges")
    check_readable(figure)
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["x", "w"]
    assert list(lines[0].get_ydata()) == ranges["x"].tolist()
    assert figure.axes[0].get_yscale() == "log"


def test_the_explorer_moves_ranges_and_the_best_alpha_lies_inside(layer):
    explorer = explore_smoothing(*layer)
    figure, said = explorer.draw(alpha=0.5)
    check_readable(figure)
    left, right = figure.axes
    activation, weight = (torch.tensor(line.get_ydata()) for line in left.get_lines())
    torch.testing.assert_close(activation, weight)  # alpha 0.5 makes the two ranges equal
    curve = right.get_lines()[0].get_ydata()
    assert curve[10] > curve[0] + 10  # alpha 0 leaves the outlier where it was, and more
    assert curve[10] > curve[-1]  # alpha 1 leaves all of it to the weight
    assert f"alpha 0.50: SQNR {curve[10]:.1f} dB" in said
    even = torch.tensor(explorer.draw(alpha=1.0)[0].axes[0].get_lines()[0].get_ydata())
    torch.testing.assert_close(even, torch.ones_like(even))
    assert len(curve) == len(ALPHAS)


def test_a_channel_of_zeros_does_no_harm(layer):
    x, w = (t.clone() for t in layer)
    x[..., 0], w[:, 1] = 0, 0
    _, said = explore_smoothing(x, w).draw(alpha=0.5)
    assert "nan" not in said
