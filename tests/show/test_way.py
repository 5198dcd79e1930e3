import pytest
from matplotlib.colors import to_hex

from xpuqlib.show.style import BLACK
from xpuqlib.show.way import STEPS, draw_way


def test_the_steps_of_a_lesson_are_lit():
    figure = draw_way("calibrate", "convert")
    figure.canvas.draw()
    [axes] = figure.axes
    boxes = [to_hex(box.get_facecolor()).upper() == BLACK for box in axes.patches]
    assert boxes == [step in ("calibrate", "convert") for step in STEPS]
    assert set(STEPS) <= {text.get_text() for text in axes.texts}


def test_its_text_is_large_enough_and_stays_in_its_box():
    figure = draw_way(*STEPS)
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert min(text.get_fontsize() for text in axes.texts) >= 9
    boxes = [box.get_window_extent() for box in axes.patches]
    said = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert all(any(box.contains(*t.min) and box.contains(*t.max) for box in boxes) for t in said)


def test_an_unknown_step_is_refused():
    with pytest.raises(KeyError):
        draw_way("guess")
