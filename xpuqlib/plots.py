"""Figures of measurements, in colours that work for colour-blind readers (Okabe and Ito)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import nn

from xpuqlib.measure import Latency

__all__ = [
    "draw_calibration_sets", "draw_code_usage", "draw_histogram", "draw_latency",
    "draw_layer_sqnr", "draw_ranges", "draw_scales",
]  # fmt: skip

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
PINK, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#BBBBBB"


def draw_histogram(observer: nn.Module, name: str) -> Figure:
    """Draw what a histogram observer saw, and which part of it int8 can represent."""
    scale, zero_point = (value.item() for value in observer.calculate_qparams())
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    counts = observer.histogram.cpu()
    edges = torch.linspace(observer.min_val.item(), observer.max_val.item(), len(counts) + 1)
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.stairs((counts / counts.sum() * 100).tolist(), edges.tolist(), fill=True, color=SKY)
    axes.axvspan(low, high, color=ORANGE, alpha=0.15, label="range of the 256 int8 codes")
    for edge in (low, high):
        axes.axvline(edge, color=ORANGE)
    axes.set(
        title=f"What the observer at {name} saw: scale {scale:.4g}, zero point {zero_point}",
        xlabel="activation value",
        ylabel="share of values (%)",
        yscale="log",
    )
    axes.legend(frameon=False)
    plt.close(figure)
    return figure


def draw_ranges(observed: dict[str, nn.Module]) -> Figure:
    """Draw the range that each per-tensor observer saw, in graph order."""
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for position, observer in enumerate(observed.values()):
        low, high = observer.min_val.item(), observer.max_val.item()
        axes.bar(position, high - low, bottom=low, color=BLUE)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(
        title="Range of activations at each observer, in graph order",
        xlabel="observer, from input to output",
        ylabel="activation value, min to max",
    )
    plt.close(figure)
    return figure


def draw_scales(qparams: dict[str, list[tuple[float, int]]]) -> Figure:
    """Draw scale and zero point of every activation, one line for each configuration."""
    figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(9, 5), layout="constrained")
    for (label, pairs), color, marker in zip(
        qparams.items(), (BLUE, ORANGE, GREEN), "os^", strict=False
    ):
        scales, zero_points = zip(*pairs, strict=True)
        top.plot(scales, color=color, marker=marker, label=label)
        bottom.plot(zero_points, color=color, marker=marker, label=label)
    top.set(title="Scale and zero point of every activation, in graph order", ylabel="scale")
    bottom.set(xlabel="observer, from input to output", ylabel="zero point (code)")
    top.legend(frameon=False)
    plt.close(figure)
    return figure


def draw_code_usage(usage: dict[str, dict[str, tuple[int, int]]]) -> Figure:
    """Draw which of the 256 codes every activation uses, one panel for each configuration."""
    figure, panels = plt.subplots(
        1, len(usage), sharey=True, figsize=(10, 3.6), layout="constrained", squeeze=False
    )
    for axes, (label, ranges) in zip(panels[0], usage.items(), strict=True):
        lows, highs = (torch.tensor(ends) for ends in zip(*ranges.values(), strict=True))
        used = (highs - lows + 1).double()
        axes.bar(range(len(ranges)), 256, bottom=-128, color=GREY, label="never used")
        axes.bar(range(len(ranges)), used, bottom=lows, color=BLUE, label="used")
        axes.set(
            title=f"{label}: {used.mean() / 256:.0%} of the codes used",
            xlabel="activation, from input to output",
        )
    panels[0][0].set(ylabel="int8 code", yticks=[-128, -64, 0, 64, 127])
    panels[0][-1].legend(loc="lower left")
    plt.close(figure)
    return figure


def draw_layer_sqnr(by_configuration: dict[str, dict[str, float]], worst: int = 3) -> Figure:
    """Draw SQNR at every layer, and name the worst layers of each configuration."""
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    styles = zip(by_configuration.items(), (BLUE, ORANGE), "os", (8, -14), strict=False)
    for (label, values), color, marker, height in styles:
        axes.plot(list(values.values()), color=color, marker=marker, label=label)
        for name in sorted(values, key=values.get)[:worst]:
            position = list(values).index(name)
            axes.annotate(
                name, (position, values[name]), xytext=(0, height), textcoords="offset points",
                ha="center", fontsize=8, color=color,
            )  # fmt: skip
    axes.set(
        title="SQNR at the output of every layer; the worst are named",
        xlabel="convolution or linear layer, from input to output",
        ylabel="SQNR against fp32 (dB), higher is better",
    )
    axes.margins(y=0.15)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    plt.close(figure)
    return figure


def draw_latency(
    latencies: dict[str, Latency], title: str, memory: dict[str, int] | None = None
) -> Figure:
    """Draw median and interquartile range of one call; the first entry is the baseline.

    With `memory`, a second panel shows the peak of activation memory, in bytes, by the same labels.
    """
    figure, panels = plt.subplots(
        1, 2 if memory else 1, sharey=True, squeeze=False,
        figsize=(11 if memory else 8, 0.6 * len(latencies) + 1.2), layout="constrained",
    )  # fmt: skip
    colors = [ORANGE if "int8" in label else BLUE for label in latencies]
    quantities = [
        ([x.median * 1e3 for x in latencies.values()], [x.iqr / 2e-3 for x in latencies.values()],
         "time of one batch (ms): median, bar of half the IQR"),
    ]  # fmt: skip
    if memory:
        sizes = [memory[label] / 1e6 for label in latencies]
        quantities.append((sizes, [0] * len(sizes), "peak of activation memory (MB)"))
    for axes, (values, errors, label) in zip(panels[0], quantities, strict=True):
        axes.barh(range(len(values)), values, xerr=errors, color=colors, capsize=4)
        for position, (value, error) in enumerate(zip(values, errors, strict=True)):
            text = f" {values[0] / value:.1f}×" if value else ""
            axes.annotate(text, (value + error, position), va="center")
        axes.set_xlabel(label)
        axes.margins(x=0.12)
    panels[0][0].set(yticks=range(len(latencies)), yticklabels=list(latencies))
    panels[0][0].invert_yaxis()
    figure.suptitle(f"{title}\n× is how many times less than the first row", fontsize="medium")
    plt.close(figure)
    return figure


def draw_calibration_sets(by_set: dict[str, dict[str, float | None]], title: str) -> Figure:
    """Draw accuracy (or agreement, without labels) and SQNR for each calibration set."""
    figure, panels = plt.subplots(
        1, 2, sharey=True, figsize=(10, 0.5 * len(by_set) + 1.4), layout="constrained"
    )
    first = next(iter(by_set.values()))
    share = "agreement" if first["top1"] is None else "top1"
    words = {"agreement": "agreement with fp32 (%)", "top1": "accuracy (%)"}
    shares = [values[share] * 100 for values in by_set.values()]
    decibels = [values["sqnr_to_fp32_db"] for values in by_set.values()]
    for axes, values, label in zip(
        panels, (shares, decibels), (words[share], "SQNR against fp32 (dB)"), strict=True
    ):
        axes.barh(list(by_set), values, color=BLUE)
        for position, value in enumerate(values):
            axes.annotate(f" {value:.1f}", (max(value, 0), position), va="center")
        axes.set_xlabel(f"{label}, higher is better")
        axes.margins(x=0.15)
    panels[0].invert_yaxis()
    figure.suptitle(title)
    plt.close(figure)
    return figure
