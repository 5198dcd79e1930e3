"""Figures of a model's way to its recipe: what hurts, and what each layer in fp32 brings."""

from __future__ import annotations

import ipywidgets as widgets
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpuqlib.proof.cost import Latency
from xpuqlib.recipe.sensitivity import ALL_BUT, ONLY, Sensitivity
from xpuqlib.show.explorers import WIDE, Explorer
from xpuqlib.show.figures import name_layers
from xpuqlib.show.style import BLACK, DTYPES, GREY, SKY, VERMILLION, new_figure

__all__ = ["draw_rescue", "draw_sensitivity", "explore_rescue"]

WORST = 3  # layers of each curve whose names are bold


def draw_sensitivity(sensitivity: Sensitivity, score: str, unit: str) -> Figure:
    """Draw two curves over all layers: only this one in int8, and all but this one.

    Parameters
    ----------
    sensitivity : Sensitivity
    score : str
        One of its scores; higher is better.
    unit : str
        Label of the axis, such as ``accuracy (%)``, which takes a score of 0…1.
    """
    table, factor = sensitivity.table[score], 100 if "%" in unit else 1
    figure, axes = new_figure(figsize=(11, 5))
    curves = {ONLY: (VERMILLION, "o", False), ALL_BUT: (SKY, "s", True)}
    bold: set[int] = set()
    for setting, (colour, marker, highest) in curves.items():
        values = table[setting]
        axes.plot(list(factor * values), color=colour, marker=marker, label=f"{setting} in int8")
        ranked = values.reset_index(drop=True).sort_values(ascending=not highest)
        bold |= set(ranked.index[:WORST])
    ends = {"everything in int8": (sensitivity.quantized, ":")}
    if "%" in unit:  # in decibels fp32 is far above all others
        ends = {"nothing in int8": (sensitivity.floating, "--"), **ends}
    for label, (scores, style) in ends.items():
        axes.axhline(factor * scores[score], color=BLACK, linestyle=style, label=label)
    names = [name or "no layer" for name in table.index]
    name_layers(axes, names, bold)
    axes.set(
        title="What each layer costs",
        xlabel="convolution or linear layer, from input to output",
        ylabel=f"{unit}, higher is better",
    )
    axes.margins(y=0.15)
    if "%" in unit:
        axes.set_ylim(top=100)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_rescue(
    curve: pandas.DataFrame,
    target: float,
    latencies: dict[int, Latency] | None = None,
) -> Figure:
    """Draw accuracy over the number of layers in int8, and the time of those that were compiled.

    A dotted line joins the times; between them nothing was measured.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `xpuqlib.recipe.accuracy_curve` gives it, with a score ``accuracy`` of 0…1.
    target : float
        The lowest accuracy that is good enough, 0…1.
    latencies : dict of int to Latency, optional
        By the number of layers in floating point, in this order.
    """
    figure, panels = new_figure(1, 2 if latencies else 1, figsize=(11, 4), squeeze=False)
    _accuracies(panels[0][0], curve, target)
    if latencies:
        _times(panels[0][1], len(curve) - 1, latencies)
    figure.suptitle("From all layers in int8 to none", fontsize="medium")
    return figure


def _accuracies(axes: Axes, curve: pandas.DataFrame, target: float, at: int | None = None) -> None:
    in_int8 = len(curve) - 1 - curve.index
    axes.plot(in_int8, 100 * curve["accuracy"], color=BLACK, marker="o", markersize=4)
    axes.axhline(100 * target, color=GREY, linestyle="--", label="good enough")
    if at is not None:
        chosen = 100 * curve["accuracy"].iloc[at]
        look = {"color": VERMILLION, "markersize": 12, "label": "chosen"}
        axes.plot(in_int8[at], chosen, "o", fillstyle="none", **look)
    axes.set(xlabel="layers in int8", ylabel="accuracy (%), higher is better")
    axes.set_ylim(top=100)
    axes.invert_xaxis()  # read from left to right: one layer after another is given up
    axes.legend(frameon=False)


def _times(axes: Axes, layers: int, latencies: dict[int, Latency]) -> None:
    for floating, latency in latencies.items():
        count = layers - floating
        look = {"color": DTYPES["int8" if count else "fp32"], "marker": "o", "capsize": 4}
        axes.errorbar(count, 1e3 * latency.median, yerr=1e3 * latency.iqr / 2, **look)
    in_int8 = [layers - floating for floating in latencies]
    medians = [1e3 * latency.median for latency in latencies.values()]
    axes.plot(in_int8, medians, color=GREY, linestyle=":", zorder=0)  # only joins what was timed
    axes.set(xlabel="layers in int8", ylabel="time of one batch (ms), lower is better")
    axes.set_ylim(bottom=0)
    axes.invert_xaxis()


def explore_rescue(curve: pandas.DataFrame, target: float) -> Explorer:
    """Choose how many layers stay in floating point: accuracy, SQNR, and their names.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `xpuqlib.recipe.accuracy_curve` gives it, with the scores ``accuracy`` and ``SQNR``.
    target : float
        The lowest accuracy that is good enough, 0…1.
    """

    def draw(floating: int) -> tuple[Figure, str]:
        row, names = curve.iloc[floating], list(curve["layer"].iloc[1 : floating + 1])
        figure, axes = new_figure(figsize=(7, 3.4))
        _accuracies(axes, curve, target, floating)
        axes.set_title(f"{floating} of {len(curve) - 1} layers in floating point")
        enough = "good enough" if row["accuracy"] >= target else "not good enough"
        said = f"Accuracy {row['accuracy']:.1%}, {enough}; SQNR {row['SQNR']:.1f} dB. "
        return figure, said + f"In floating point: {', '.join(names) or 'nothing'}."

    slider = widgets.IntSlider(0, min=0, max=len(curve) - 1, description="layers in fp32", **WIDE)
    return Explorer(draw, floating=slider)
