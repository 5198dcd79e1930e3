import pandas
import pytest
from conftest import check_readable
from matplotlib.colors import to_rgba

from xpuqlib.proof.cost import Latency
from xpuqlib.recipe.sensitivity import ALL_BUT, ONLY, Sensitivity
from xpuqlib.show.rescue import draw_rescue, draw_sensitivity, explore_rescue
from xpuqlib.show.style import DTYPES

LAYERS = ["a", "b", "c", "d", ""]


@pytest.fixture
def sensitivity():
    columns = {
        ("accuracy", ONLY): [0.90, 0.20, 0.80, 0.95, 0.96],
        ("accuracy", ALL_BUT): [0.31, 0.60, 0.33, 0.30, 0.30],
    }
    table = pandas.DataFrame(columns, index=pandas.Index(LAYERS, name="layer"))
    return Sensitivity(table, {"accuracy": 0.97}, {"accuracy": 0.30})


@pytest.fixture
def curve():
    rows = {
        "layer": ["", "b", "c", "a"],
        "accuracy": [0.3, 0.6, 0.96, 0.97],
        "SQNR": [1.0, 8.0, 30.0, 120.0],
    }
    return pandas.DataFrame(rows).rename_axis("layers kept")


def test_two_curves_and_the_ends(sensitivity):
    figure = draw_sensitivity(sensitivity, "accuracy", "accuracy (%)")
    check_readable(figure)
    [axes] = figure.axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == [
        f"{ONLY} in int8",
        f"{ALL_BUT} in int8",
        "nothing in int8",
        "everything in int8",
    ]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c", "d", "no layer"]
    bold = [tick.get_text() for tick in axes.get_xticklabels() if tick.get_fontweight() == "bold"]
    assert "b" in bold
    assert axes.get_ylim()[1] == 100


def test_decibels_have_no_line_for_fp32_which_is_far_above(sensitivity):
    figure = draw_sensitivity(sensitivity, "accuracy", "SQNR (dB)")
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert "nothing in int8" not in labels


def test_accuracy_over_the_layers_in_int8_and_the_times(curve):
    times = {0: Latency(0.01, 0.001, 9), 2: Latency(0.012, 0.001, 9), 3: Latency(0.03, 0.001, 9)}
    figure = draw_rescue(curve, 0.95, times)
    check_readable(figure)
    accuracy, time = figure.axes
    assert list(accuracy.get_lines()[0].get_xdata()) == [3, 2, 1, 0]
    marks = [line for line in time.get_lines() if line.get_marker() == "o"]
    assert [(*mark.get_xdata(), *mark.get_ydata()) for mark in marks] == [(3, 10), (1, 12), (0, 30)]
    colours = [to_rgba(mark.get_color()) for mark in marks]
    assert colours == [to_rgba(DTYPES[dtype]) for dtype in ("int8", "int8", "fp32")]
    [joined] = [line for line in time.get_lines() if line.get_linestyle() == ":"]
    assert list(joined.get_xdata()) == [3, 1, 0]
    limits = [axes.get_xlim() for axes in (accuracy, time)]
    assert all(left > right for left, right in limits)  # both are read from all in int8 to none


def test_the_explorer_names_the_layers_and_says_what_is_enough(curve):
    explorer = explore_rescue(curve, 0.95)
    explorer.controls["floating"].value = 2
    figure, said = explorer.draw(floating=2)
    check_readable(figure)
    assert "Accuracy 96.0%, good enough; SQNR 30.0 dB. In floating point: b, c." in said
    assert "not good enough" in explorer.draw(floating=1)[1]
