"""Alternative texts: what a figure says of itself, and that a notebook keeps it."""

import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from xpuqlib.show.style import new_figure
from xpuqlib.show.way import draw_way


@pytest.fixture
def figure():
    figure, (left, right) = new_figure(1, 2)
    left.barh(["fp32, eager", "int8"], [2, 1], label="time")
    left.set(title="Latency", xlabel="time (ms)")
    right.plot([1, 2], label="SQNR")
    right.set(xlabel="layer", ylabel="SQNR (dB),\nhigher is better")
    right.legend()
    figure.suptitle("resnet18, batch 32")
    return figure


def test_titles_axes_rows_and_legends_are_said(figure):
    assert figure.describe() == (
        "resnet18, batch 32. Latency (x: time (ms); rows: fp32, eager / int8). "
        "x: layer; y: SQNR (dB), higher is better. Drawn are: SQNR."
    )


def test_a_figure_without_axes_says_what_it_was_given():
    assert draw_way("lower", "prove").describe().endswith("Lit are: lower, prove.")


def test_a_notebook_keeps_the_text_beside_the_image(figure):
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda figure: b"image")
    data, metadata = formatter.format(figure)
    assert data == {"image/png": b"image", "text/plain": figure.describe()}
    assert metadata == {"image/png": {"alt": figure.describe()}}
