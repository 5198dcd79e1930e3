import pytest
from conftest import prepare

from xpuqlib import plots
from xpuqlib.data import load_data
from xpuqlib.graph import count_operators
from xpuqlib.measure import Latency
from xpuqlib.models import load_model
from xpuqlib.pt2e import HistogramObserver, calibrate, capture, observers


@pytest.fixture(scope="module")
def observed():
    data = load_data(calibration_batches=1)
    prepared = prepare(capture(load_model(), (data.example,)))
    calibrate(prepared, data.calibration)
    return {n: o for n, o in observers(prepared).items() if isinstance(o, HistogramObserver)}


def check_readable(figure):
    [axes] = figure.axes
    assert axes.get_title()
    assert axes.get_xlabel()
    figure.canvas.draw()


@pytest.mark.parametrize("stage", ["captured", "converted"])
def test_graph_has_one_box_for_each_operator_on_activations(resnet_flow, stage):
    captured = capture(resnet_flow.model, resnet_flow.inputs)
    graph = captured if stage == "captured" else resnet_flow.converted
    counts = count_operators(graph)
    boxes = sum(n for operator, n in counts.items() if "per_channel" not in operator)
    figure = plots.draw_graph(graph, "title")
    check_readable(figure)
    assert len(figure.axes[0].patches) == boxes
    assert any(text.get_text() == "layer3" for text in figure.axes[0].texts)


def test_ranges_have_one_bar_for_each_observer(observed):
    figure = plots.draw_ranges(observed)
    check_readable(figure)
    assert len(figure.axes[0].patches) == len(observed) > 20


def test_histogram_shows_the_range_of_the_codes(observed):
    name, observer = list(observed.items())[3]
    figure = plots.draw_histogram(observer, name)
    check_readable(figure)
    scale, _ = observer.calculate_qparams()
    low, high = (line.get_xdata()[0] for line in figure.axes[0].lines)
    assert high - low == pytest.approx(255 * scale.item())


def test_latency_shows_speed_against_the_first():
    figure = plots.draw_latency({"a": Latency(0.4, 0.1, 9), "b": Latency(0.1, 0.01, 9)}, "title")
    check_readable(figure)
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert texts == ["1.0×", "4.0×"]
