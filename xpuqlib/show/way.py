"""The whole way from a model to proved int8, as the figure that opens each lesson."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from xpuqlib.show.style import BLACK, GREY, new_figure

__all__ = ["STEPS", "draw_way"]

STEPS = {
    "capture": "the model as a graph",
    "prepare": "observers in the graph",
    "calibrate": "observers see real data",
    "convert": "quantize and dequantize",
    "lower": "int8 kernels compiled",
    "prove": "counted and compared",
}


def draw_way(*lit: str) -> Figure:
    """Draw the six steps, and light those of this lesson.

    Parameters
    ----------
    *lit : str
        Names of `STEPS`; an unknown one is a KeyError.
    """
    lit_steps = {step: STEPS[step] for step in lit}
    figure, axes = new_figure(figsize=(10, 1.3))
    for place, (step, meaning) in enumerate(STEPS.items()):
        chosen = step in lit_steps
        look = {"facecolor": BLACK if chosen else "white", "edgecolor": BLACK if chosen else GREY}
        axes.add_patch(FancyBboxPatch((place, 0), 0.8, 1, boxstyle="round,pad=0.04", **look))
        colour = "white" if chosen else BLACK
        weight = "bold" if chosen else "normal"
        at = {"ha": "center", "va": "center", "color": colour}
        axes.text(place + 0.4, 0.78, step, fontsize=12, weight=weight, **at)
        axes.text(place + 0.4, 0.3, textwrap.fill(meaning, 16), fontsize=10, **at)
        if place:
            arrow = {"arrowstyle": "->", "color": BLACK}
            axes.annotate("", (place - 0.04, 0.5), (place - 0.16, 0.5), arrowprops=arrow)
    axes.set(xlim=(-0.1, len(STEPS) - 0.1), ylim=(-0.1, 1.1))
    axes.set_axis_off()
    figure.set_label(
        f"The way in six steps: {', '.join(STEPS)}. Lit are: {', '.join(lit) or 'none'}."
    )
    return figure
