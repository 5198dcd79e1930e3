"""Style of all figures: colours for colour-blind readers (Okabe and Ito), and those of dtypes.

Three colours are those of dtypes, and mean nothing else in any figure. Of the others `SKY` is for
measured values, `VERMILLION` for the one to look at, `SERIES` for lines side by side.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from xpuqlib.show.described import DescribedFigure

__all__ = [
    "BLACK",
    "DTYPES",
    "GREY",
    "PINK",
    "SERIES",
    "SKY",
    "VERMILLION",
    "YELLOW",
    "new_figure",
    "plain_log_ticks",
]

SKY, VERMILLION, PINK, YELLOW = "#56B4E9", "#D55E00", "#CC79A7", "#F0E442"
BLACK, GREY = "#333333", "#BBBBBB"
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind a label over bars
SERIES = (BLACK, VERMILLION, SKY)

# What ran, in bars, strips and graphs: a mixture has the first colour, hatched with the second.
DTYPES = {"int8": "#0072B2", "bf16": "#E69F00", "fp32": "#009E73"}


def new_figure(*shape: int, **settings: Any) -> tuple[Figure, Any]:
    """``plt.subplots`` of a `DescribedFigure`, which pyplot shows only where a cell returns it."""
    look = {"FigureClass": DescribedFigure, "layout": "constrained"}
    figure, axes = plt.subplots(*shape, **look, **settings)
    plt.close(figure)
    return figure, axes


def plain_log_ticks(*panels: Axes) -> None:
    """Label a logarithmic y axis as 0.01, 1, 100: powers of ten take a third of a figure's time."""
    for axes in panels:
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_major_formatter("{x:g}")


def dtype_patch(dtypes: str) -> Patch:
    """Legend entry of what ran, such as ``int8``, or ``int8, bf16`` for a mixture."""
    first, *more = dtypes.split(", ")
    second = DTYPES.get(more[0] if more else "", "white")
    look = {"hatch": "//", "edgecolor": second, "linewidth": 0} if more else {}
    return Patch(facecolor=DTYPES.get(first, GREY), label=dtypes, **look)
