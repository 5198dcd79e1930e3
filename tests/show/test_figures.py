import itertools

import pytest
import torch
from conftest import check_readable, prepare
from matplotlib.colors import to_hex
from torch.ao.quantization.observer import MinMaxObserver

from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.recipe.calibration import calibrate, observers
from xpuqlib.recipe.pt2e import HistogramObserver, capture
from xpuqlib.show import figures, style


@pytest.fixture(scope="module")
def observed():
    data = load_data(calibration_batches=1)
    prepared = prepare(capture(load_model(), (data.example,)))
    calibrate(prepared, data.calibration)
    return {n: o for n, o in observers(prepared).items() if isinstance(o, HistogramObserver)}


def test_observers_have_a_bar_each_and_one_of_them_its_codes(observed):
    name, observer = list(observed.items())[3]
    scale, zero_point = (value.item() for value in observer.calculate_qparams())
    figure = figures.draw_observer(observed, name, scale, zero_point)
    check_readable(figure)
    bars, codes = figure.axes
    colours = [to_hex(colour).upper() for colour in bars.collections[0].get_colors()]
    assert len(colours) == len(observed) > 20
    assert colours.index(style.VERMILLION) == 3
    low, high = (line.get_xdata()[0] for line in codes.lines)
    assert high - low == pytest.approx(255 * scale)


def test_an_observer_without_histogram_has_its_range():
    observer = MinMaxObserver(dtype=torch.qint8)
    observer(torch.tensor([-1.0, 2.0]))
    figure = figures.draw_observer({"x": observer}, "x", 3 / 255, -43)
    check_readable(figure)
    [[(_, low), (_, high)]] = figure.axes[0].collections[0].get_segments()
    assert (low, high) == (-1, 2)


def test_scales_have_one_line_for_each_configuration():
    figure = figures.draw_scales({"a": [(0.1, 0), (0.2, 3)], "b": [(0.3, -128), (0.4, 0)]})
    scales, zero_points = figure.axes
    assert [list(line.get_ydata()) for line in scales.lines] == [[0.1, 0.2], [0.3, 0.4]]
    assert [list(line.get_ydata()) for line in zero_points.lines] == [[0, 3], [-128, 0]]
    assert scales.get_title()
    figure.canvas.draw()


def test_code_usage_says_the_code_span():
    # One code in the middle is not used: a span does not see it.
    figure = figures.draw_code_usage({"a": {"x": (-128, 127)}, "b": {"x": (0, 127), "y": (0, 63)}})
    check_readable(figure)
    titles = [axes.get_title() for axes in figure.axes]
    said = "code span {} of 256, on average"
    assert titles == [f"a: {said.format(256)}", f"b: {said.format(96)}"]
    assert check_legend_is_outside(figure) == ["outside of it", "code span"]


def check_legend_is_outside(figure):
    """No legend lies over bars or lines; give its labels."""
    figure.draw_without_rendering()  # the canvas of a closed figure does not lay it out
    [legend] = figure.legends
    assert not any(axes.get_legend() for axes in figure.axes)
    place = legend.get_window_extent()
    assert not any(place.overlaps(axes.get_window_extent()) for axes in figure.axes)
    return [text.get_text() for text in legend.get_texts()]


def test_layer_sqnr_rings_and_names_the_worst_layers():
    values = {"conv1": 30.0, "conv2": 10.0, "conv3": 25.0, "fc": 20.0}
    figure = figures.draw_layer_sqnr({"default": values})
    check_readable(figure)
    [axes] = figure.axes
    _, rings = axes.lines
    assert list(zip(*rings.get_data(), strict=True)) == [(1, 10.0), (3, 20.0), (2, 25.0)]
    ticks = [(tick.get_text(), tick.get_fontweight()) for tick in axes.get_xticklabels()]
    assert ticks == [("conv1", "normal"), *((name, "bold") for name in ("conv2", "conv3", "fc"))]
    assert check_legend_is_outside(figure) == ["default", "the 3 lowest, default"]


def test_names_of_many_layers_do_not_lie_over_each_other():
    values = {f"features.{number}.conv.0": 40.0 - number for number in range(60)}
    figure = figures.draw_layer_sqnr({"default": values})
    figure.draw_without_rendering()
    places = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
    pairs = list(itertools.pairwise(places))
    assert len(pairs) == 59
    assert not any(left.overlaps(right) for left, right in pairs)
    figure = figures.draw_layer_sqnr({"default": values | {"fc": 39.0}})
    figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks == [f"features.{number}.conv.0" for number in (57, 58, 59)]
