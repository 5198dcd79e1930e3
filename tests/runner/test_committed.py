import base64
import io

import nbformat
import numpy
from PIL import Image

from xpuqlib.runner import committed
from xpuqlib.runner.committed import PaletteFigures
from xpuqlib.show import draw_way
from xpuqlib.show.states import STATES_MIME_TYPE


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(encoded):
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    return numpy.asarray(image, dtype=float)


def test_figures_get_smaller_and_look_the_same():
    before = png(draw_way("lower"))
    output = nbformat.v4.new_output("display_data", {"image/png": before, "text/plain": "a"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    exported, _ = PaletteFigures(enabled=True).preprocess(notebook, {})
    after = exported.cells[0].outputs[0].data["image/png"]
    assert len(after) < len(before) / 2
    # A step of 8 in 255 is what nobody sees.
    assert abs(pixels(after) - pixels(before)).mean() < 1
    assert numpy.percentile(abs(pixels(after) - pixels(before)), 99) <= 8


def test_a_lesson_that_is_too_large_loses_the_states_of_its_first_explorer(monkeypatch):
    monkeypatch.setattr(committed, "LARGEST", 5000)
    outputs = [
        nbformat.v4.new_output("display_data", {STATES_MIME_TYPE: {"states": ["x" * 3000]}})
        for _ in range(2)
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    exported, _ = PaletteFigures(enabled=True).preprocess(notebook, {})
    kept = [STATES_MIME_TYPE in output.data for output in exported.cells[0].outputs]
    assert kept == [False, True]
