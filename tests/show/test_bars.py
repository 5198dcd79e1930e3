import pandas
import pytest
from conftest import check_readable
from matplotlib.colors import to_hex

from xpuqlib.proof.cost import Latency
from xpuqlib.show.bars import draw_bars, draw_calibration_sets, draw_latency
from xpuqlib.show.style import DTYPES

LATENCIES = {
    "eager": Latency(0.6, 0.1, 9),
    "compiled": Latency(0.4, 0.1, 9),
    "int8": Latency(0.1, 0.01, 9),
}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_bars_have_one_panel_for_each_quantity_and_none_for_what_is_missing():
    table = pandas.DataFrame({"a (%)": [50.0, None], "b (dB)": [20, 10]}, ["x", "y"])
    errors = pandas.DataFrame({"b (dB)": [1.0, 2.0]}, ["x", "y"])
    figure = draw_bars(table, "title", errors=errors)
    check_readable(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["a (%)", "b (dB)"]
    assert [texts(axes) for axes in figure.axes] == [["50"], ["20", "10"]]
    assert figure.axes[0].get_xlim() == (0, 100)
    assert figure.axes[1].get_xlim()[1] > 21
    assert figure.legends == []


def test_colour_follows_what_ran_not_the_label():
    table = pandas.DataFrame({"time (ms)": [3.0, 2.0, 1.0]}, ["nothing of int8", "q", "mixed"])
    ran = {"nothing of int8": "fp32", "q": "int8", "mixed": "int8, bf16"}
    figure = draw_bars(table, "title", ran=ran)
    check_readable(figure)
    bars = figure.axes[0].patches
    colours = [DTYPES[dtypes.split(", ")[0]] for dtypes in ran.values()]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == colours
    assert [bar.get_hatch() for bar in bars] == [None, None, "//"]
    assert to_hex(bars[2].get_edgecolor()).upper() == DTYPES["bf16"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(ran.values())
    with pytest.raises(KeyError):
        draw_bars(table, "title", ran={"q": "int8"})


def test_latency_shows_milliseconds_and_speed_against_the_baseline():
    figure = draw_latency(LATENCIES, "title", baseline="compiled")
    check_readable(figure)
    assert texts(figure.axes[0]) == [
        "600 ms, 0.67× as fast",
        "400 ms, baseline",
        "100 ms, 4× as fast",
    ]
    assert texts(draw_latency(LATENCIES, "title").axes[0]) == ["600 ms", "400 ms", "100 ms"]


def test_a_baseline_is_marked_in_each_panel_of_times_and_crosses_no_label():
    table = pandas.DataFrame({"a (%)": [50, 60], "b (ms)": [0.1, 4.0]}, ["int8", "fp32"])
    figure = draw_bars(table, "title", baseline="fp32")
    share, time = figure.axes
    assert (len(share.lines), len(time.lines)) == (0, 1)
    assert list(time.lines[0].get_xdata()) == [4.0, 4.0]
    assert texts(time) == ["0.1 ms\n40× as fast", "4 ms\nbaseline"]
    assert texts(share) == ["50", "60"]
    for label in time.texts:  # it hides the line where it would cross
        assert label.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
        assert label.get_zorder() > time.lines[0].get_zorder()
    figure.draw_without_rendering()
    end = time.get_window_extent().x1
    assert all(label.get_window_extent().x1 <= end for label in time.texts)


@pytest.mark.parametrize(("top1", "label"), [(0.98, "accuracy"), (None, "agreement")])
def test_calibration_sets_show_what_there_is(top1, label):
    values = {"top1": top1, "agreement": 0.5, "sqnr_to_fp32_db": 38.5}
    figure = draw_calibration_sets({"a": values, "b": values}, "title")
    left, right = figure.axes
    assert left.get_xlabel().startswith(label)
    assert [bar.get_width() for bar in left.patches] == [(top1 or 0.5) * 100] * 2
    assert [text.get_text() for text in right.texts] == ["38.5"] * 2
    figure.canvas.draw()
