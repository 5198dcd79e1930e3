"""Figures of observers, codes and layers."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import nn

from xpuqlib.show.style import BLUE, GREEN, GREY, ORANGE, SKY, new_figure, plain_log_ticks

__all__ = ["draw_code_usage", "draw_layer_sqnr", "draw_observer", "draw_scales"]


def draw_observer(
    observed: dict[str, nn.Module], name: str, scale: float, zero_point: int
) -> Figure:
    """Draw the range of every activation, and the histogram of one with what int8 represents.

    Parameters
    ----------
    observed : dict of str to observer
        Calibrated per-tensor observers by the name of what they watch, in graph order.
    name : str
        The one to look at.
    scale, zero_point : float, int
        Its own; a histogram observer takes a while to find them, so the caller keeps them.
    """
    figure, (left, right) = new_figure(1, 2, figsize=(10, 3.2))
    ends = [(o.min_val.item(), o.max_val.item()) for o in observed.values()]
    lows, highs = zip(*ends, strict=True)
    colors = [ORANGE if label == name else BLUE for label in observed]
    left.vlines(range(len(ends)), lows, highs, colors, linewidth=8)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(
        title="Range of every activation",
        xlabel="observer, from input to output",
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
    right.axvspan(low, high, color=ORANGE, alpha=0.15, label="range of the int8 codes")
    for edge in (low, high):
        right.axvline(edge, color=ORANGE)
    right.set(
        title=f"{name}: scale {scale:.4g}, zero point {zero_point}", xlabel="activation value"
    )
    right.legend(frameon=False, loc="upper right")
    return figure


def draw_scales(qparams: dict[str, list[tuple[float, int]]]) -> Figure:
    """Draw scale and zero point of every activation, one line for each configuration."""
    figure, (top, bottom) = new_figure(2, sharex=True, figsize=(9, 5))
    styles = zip(qparams.items(), (BLUE, ORANGE, GREEN), "os^", strict=False)
    for (label, pairs), color, marker in styles:
        scales, zero_points = zip(*pairs, strict=True)
        top.plot(scales, color=color, marker=marker, label=label)
        bottom.plot(zero_points, color=color, marker=marker, label=label)
    top.set(title="Scale and zero point of every activation, in graph order", ylabel="scale")
    bottom.set(xlabel="observer, from input to output", ylabel="zero point (code)")
    top.legend(frameon=False)
    return figure


def draw_code_usage(usage: dict[str, dict[str, tuple[int, int]]]) -> Figure:
    """Draw which of the 256 codes every activation uses, one panel for each configuration."""
    figure, panels = new_figure(1, len(usage), sharey=True, figsize=(10, 3.6), squeeze=False)
    for axes, (label, ranges) in zip(panels[0], usage.items(), strict=True):
        lows, highs = (torch.tensor(ends) for ends in zip(*ranges.values(), strict=True))
        used = (highs - lows + 1).double()
        axes.bar(range(len(ranges)), 256, bottom=-128, color=GREY, label="never used")
        axes.bar(range(len(ranges)), used, bottom=lows, color=BLUE, label="used")
        title = f"{label}: {used.mean() / 256:.0%} of the codes used"
        axes.set(title=title, xlabel="activation, from input to output")
    panels[0][0].set(ylabel="int8 code", yticks=[-128, -64, 0, 64, 127])
    panels[0][-1].legend(loc="lower left")
    return figure


def draw_layer_sqnr(by_configuration: dict[str, dict[str, float]], worst: int = 3) -> Figure:
    """Draw SQNR at every layer, and name the worst layers of each configuration."""
    figure, axes = new_figure(figsize=(10, 4))
    styles = zip(by_configuration.items(), (BLUE, ORANGE), "os", (8, -14), strict=False)
    for (label, values), color, marker, height in styles:
        axes.plot(list(values.values()), color=color, marker=marker, label=label)
        for name in sorted(values, key=values.get)[:worst]:
            at = (list(values).index(name), values[name])
            axes.annotate(
                name,
                at,
                xytext=(0, height),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=color,
            )
    axes.set(
        title="SQNR at the output of every layer; the worst are named",
        xlabel="convolution or linear layer, from input to output",
        ylabel="SQNR against fp32 (dB), higher is better",
    )
    axes.margins(y=0.15)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure
