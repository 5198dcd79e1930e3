"""Figures of observers, codes and layers."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from xpuqlib.show.style import DTYPES, GREY, SERIES, SKY, VERMILLION, new_figure, plain_log_ticks

__all__ = ["draw_code_usage", "draw_layer_sqnr", "draw_observer", "draw_scales", "name_layers"]

MAX_NAMES = 60  # more names of layers would lie over each other
WORST = 3  # layers of each configuration that get a ring


def draw_observer(
    observed: dict[str, nn.Module], name: str, scale: float, zero_point: int
) -> Figure:
    """Draw the range of what every layer reads, and the histogram of one with the codes' range.

    Parameters
    ----------
    observed : dict of str to observer
        Calibrated per-tensor observers by the layer that reads what they watch, in graph order.
    name : str
        The one to look at.
    scale, zero_point : float, int
        Its own; a histogram observer takes a while to find them, so the caller keeps them.
    """
    figure, (left, right) = new_figure(1, 2, figsize=(10, 3.2))
    ends = [(o.min_val.item(), o.max_val.item()) for o in observed.values()]
    lows, highs = zip(*ends, strict=True)
    colors = [VERMILLION if label == name else SKY for label in observed]
    left.vlines(range(len(ends)), lows, highs, colors, linewidth=8)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(
        title="Range of what every layer reads",
        xlabel="layer, from input to output",
        ylabel="activation value, min to max",
    )
    observer = observed[name]
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    if hasattr(observer, "histogram"):
        counts = observer.histogram.cpu().view(128, -1).sum(1)  # of 2,048 bins: faster to draw
        share = counts / counts.sum() * 100
        ends = observer.min_val.item(), observer.max_val.item(), len(share) + 1
        right.stairs(share.tolist(), torch.linspace(*ends).tolist(), fill=True, color=SKY)
        right.set(ylabel="share of values (%)", yscale="log")
        plain_log_ticks(right)
    right.axvspan(low, high, color=VERMILLION, alpha=0.15, label="range of the int8 codes")
    for edge in (low, high):
        right.axvline(edge, color=VERMILLION)
    right.set(
        title=f"{name}: scale {scale:.4g}, zero point {zero_point}", xlabel="activation value"
    )
    right.legend(loc="upper right", framealpha=1, edgecolor="none")  # above the edge of the codes
    return figure


def draw_scales(qparams: dict[str, list[tuple[float, int]]]) -> Figure:
    """Draw scale and zero point of every activation, one line for each configuration."""
    figure, (top, bottom) = new_figure(2, sharex=True, figsize=(9, 5))
    styles = zip(qparams.items(), SERIES, "os^", strict=False)
    for (label, pairs), color, marker in styles:
        scales, zero_points = zip(*pairs, strict=True)
        top.plot(scales, color=color, marker=marker, label=label)
        bottom.plot(zero_points, color=color, marker=marker, label=label)
    top.set(title="Scale and zero point of every activation, in graph order", ylabel="scale")
    bottom.set(xlabel="observer, from input to output", ylabel="zero point (code)")
    top.legend(frameon=False)
    return figure


def draw_code_usage(usage: dict[str, dict[str, tuple[int, int]]]) -> Figure:
    """Draw the code span of every activation, one panel for each configuration.

    Parameters
    ----------
    usage : dict of str to dict of str to (int, int)
        By configuration: the smallest and the largest code of each activation, in graph order.
    """
    figure, panels = new_figure(1, len(usage), sharey=True, figsize=(10, 4), squeeze=False)
    for axes, (label, ranges) in zip(panels[0], usage.items(), strict=True):
        lows, highs = (torch.tensor(ends) for ends in zip(*ranges.values(), strict=True))
        span = (highs - lows + 1).double()
        axes.bar(range(len(ranges)), 256, bottom=-128, color=GREY, label="outside of it")
        axes.bar(range(len(ranges)), span, bottom=lows, color=DTYPES["int8"], label="code span")
        title = f"{label}: code span {span.mean():.0f} of 256, on average"
        axes.set(title=title, xlabel="activation, from input to output")
    panels[0][0].set(ylabel="int8 code", yticks=[-128, -64, 0, 64, 127])
    legend = panels[0][0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=2, frameon=False)
    return figure


def name_layers(axes: Axes, names: list[str], marked: set[int]) -> None:
    """Write the names of layers below an axis, those at the marked places bold."""
    named = range(len(names)) if len(names) <= MAX_NAMES else sorted(marked)
    axes.set_xticks(list(named), [names[place] for place in named], rotation=90, fontsize=9)
    for tick, place in zip(axes.get_xticklabels(), named, strict=True):
        tick.set_fontweight("bold" if place in marked else "normal")


def draw_layer_sqnr(by_configuration: dict[str, dict[str, float]]) -> Figure:
    """Draw SQNR at every layer, with a ring around the three worst of each configuration.

    Parameters
    ----------
    by_configuration : dict of str to dict of str to float
        By configuration: SQNR in dB by layer, in graph order. The layers are the same in all.
    """
    figure, axes = new_figure(figsize=(11, 5.4))
    ringed = set()
    styles = zip(by_configuration.items(), SERIES, "os^", strict=False)
    for (label, values), color, marker in styles:
        axes.plot(list(values.values()), color=color, marker=marker, label=label)
        at = sorted(range(len(values)), key=list(values.values()).__getitem__)[:WORST]
        ring = {"marker": "o", "markersize": 15, "fillstyle": "none", "linestyle": "none"}
        lowest = [list(values.values())[place] for place in at]
        axes.plot(at, lowest, color=color, label=f"the {len(at)} lowest, {label}", **ring)
        ringed |= set(at)
    names = list(next(iter(by_configuration.values())))
    name_layers(axes, names, ringed)
    axes.set(
        title="SQNR at the output of every layer",
        xlabel="convolution or linear layer, from input to output",
        ylabel="SQNR against fp32 (dB), higher is better",
    )
    axes.margins(y=0.15)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure
