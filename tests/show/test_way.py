import pytest
from matplotlib.colors import to_hex

from xpuqlib.show.style import BLUE
from xpuqlib.show.way import STEPS, draw_way


def test_the_steps_of_a_lesson_are_lit():
    figure = draw_way("calibrate", "convert")
    figure.canvas.draw()
    [axes] = figure.axes
    boxes = [to_hex(box.get_facecolor()).upper() == BLUE for box in axes.patches]
    assert boxes == [step in ("calibrate", "convert") for step in STEPS]
    assert set(STEPS) <= {text.get_text() for text in axes.texts}


def test_an_unknown_step_is_refused():
    with pytest.raises(KeyError):
        draw_way("guess")
