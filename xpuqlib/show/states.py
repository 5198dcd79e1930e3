"""All states of an explorer that has few: its slider then works in a page without a kernel."""

from __future__ import annotations

import base64
import io
from typing import Any

import ipywidgets as widgets
from PIL import Image

__all__ = ["STATES_MIME_TYPE", "possible_values", "smaller_figure"]

STATES_MIME_TYPE = "application/vnd.xpuqlib.states+json"
MOST_STATES = 30  # a page holds a figure of each: about 10 kB


def possible_values(controls: dict[str, widgets.Widget]) -> list[Any]:
    """Values of the one slider of an explorer; none if it has other controls, or too many values.

    Parameters
    ----------
    controls : dict of str to ipywidgets widget
    """
    if len(controls) != 1:
        return []
    [slider] = controls.values()
    if isinstance(slider, widgets.SelectionSlider):
        values = [value for _, value in slider._options_full]
    elif isinstance(slider, widgets.IntSlider | widgets.FloatSlider):
        steps = round((slider.max - slider.min) / slider.step)
        values = [round(slider.min + n * slider.step, 9) for n in range(steps + 1)]
    else:
        values = []
    return values if len(values) <= MOST_STATES else []


def smaller_figure(encoded: str, colours: int, kind: str = "png") -> str:
    """Store a PNG figure with a palette: a quarter of the size, and it looks the same.

    Parameters
    ----------
    encoded : str
        The file, in base64; so is the result.
    colours : int
        At most so many.
    kind : str
        ``png``, or ``webp``, which is smaller still, and which Jupyter does not show.
    """
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    page = Image.new("RGB", image.size, "white")  # a palette knows no transparency
    page.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    buffer = io.BytesIO()
    page = page.quantize(colours, dither=Image.Dither.NONE)
    if kind == "webp":
        page.convert("RGB").save(buffer, format=kind, lossless=True, method=6)
    else:
        page.save(buffer, format=kind, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
