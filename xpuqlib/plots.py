"""Figures of the lessons, in colours that work for colour-blind readers (Okabe and Ito)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import fx, nn

from xpuqlib.graph import module_path
from xpuqlib.measure import Latency

__all__ = [
    "draw_code_usage",
    "draw_graph",
    "draw_histogram",
    "draw_latency",
    "draw_layer_sqnr",
    "draw_ranges",
    "draw_scales",
]

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#BBBBBB",
)
KINDS = {
    "conv, linear": (BLUE, ("conv", "linear")),
    "quantize": (ORANGE, ("quantize",)),
    "dequantize": (YELLOW, ("dequantize",)),
    "batch norm": (PINK, ("batch_norm",)),
    "pointwise": (GREEN, ("relu", "add", "hardtanh", "clamp", "mul")),
    "pooling": (SKY, ("pool", "mean")),
    "other": (GREY, ()),
}


def _operator(node: fx.Node) -> str:
    return getattr(node.target, "_opname", None) or str(node.target)


def _kind(operator: str) -> str:
    for kind, (_, words) in KINDS.items():
        if operator.startswith(words):
            return kind
        if "quantize" not in kind and any(word in operator for word in words):
            return kind
    return "other"


def _stage(node: fx.Node) -> str | None:
    path = module_path(node)
    return ".".join(path.split(".")[:2] if path.startswith("features") else path.split(".")[:1])


def draw_graph(graph_module: fx.GraphModule, title: str) -> Figure:
    """Draw the operators of a graph in execution order, one row for each stage of the model.

    An arc shows a value that skips over operators: a residual connection or a branch.
    """
    # A weight's dequantize reads constants only: it would hide the path of the activations.
    nodes = [
        node
        for node in graph_module.graph.nodes
        if node.op == "call_function" and any(n.op != "get_attr" for n in node.all_input_nodes)
    ]
    rows: list[tuple[str, list[fx.Node]]] = []
    for node in nodes:
        stage = _stage(node) or (rows[-1][0] if rows else "input")
        if not rows or rows[-1][0] != stage or len(rows[-1][1]) >= 40:
            rows.append((stage, []))
        rows[-1][1].append(node)
    rows = _merge_short(rows)
    at = {node: (x, -1.6 * y) for y, (_, row) in enumerate(rows) for x, node in enumerate(row)}
    width = max(len(row) for _, row in rows)
    figure, axes = plt.subplots(figsize=(11, 0.42 * len(rows) * 1.6 + 1.2), layout="constrained")
    used = set()
    for node, (x, y) in at.items():
        kind = _kind(_operator(node))
        used.add(kind)
        axes.add_patch(Rectangle((x + 0.08, y), 0.84, 0.7, facecolor=KINDS[kind][0], zorder=2))
        for source in node.all_input_nodes:
            if source in at and at[source][1] == y and x - at[source][0] > 1:
                left = at[source][0] + 0.5
                height = 0.75 + min(0.06 * (x - left), 0.5)
                axes.plot(
                    [left, left, x + 0.5, x + 0.5],
                    [y + 0.7, y + height, y + height, y + 0.7],
                    color="#555555",
                    linewidth=0.8,
                    zorder=1,
                )
    for number, (stage, _) in enumerate(rows):
        axes.text(-0.4, -1.6 * number + 0.35, stage, ha="right", va="center", fontsize=9)
    axes.set(
        xlim=(-max(len(stage) for stage, _ in rows) * width / 90 - 1, width + 0.5),
        ylim=(-1.6 * len(rows) + 1, 1.6),
        xticks=[],
        yticks=[],
        title=title,
        xlabel="operators in execution order, one row for each stage of the model",
    )
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.legend(
        handles=[Patch(color=KINDS[kind][0], label=kind) for kind in KINDS if kind in used],
        ncols=7,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.25 / len(rows) - 0.08),
        frameon=False,
    )
    plt.close(figure)
    return figure


def _merge_short(rows: list[tuple[str, list[fx.Node]]]) -> list[tuple[str, list[fx.Node]]]:
    merged: list[tuple[str, list[fx.Node]]] = []
    for stage, row in rows:
        if merged and len(merged[-1][1]) + len(row) <= 16 and min(len(merged[-1][1]), len(row)) < 8:
            first, nodes = merged[-1]
            merged[-1] = (f"{first.split(' … ')[0]} … {stage}", nodes + row)
        else:
            merged.append((stage, list(row)))
    return merged


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


def draw_latency(latencies: dict[str, Latency], title: str) -> Figure:
    """Draw median and interquartile range of one call; the first entry is the baseline."""
    baseline = next(iter(latencies.values())).median
    figure, axes = plt.subplots(figsize=(8, 0.6 * len(latencies) + 1.2), layout="constrained")
    for position, (label, latency) in enumerate(latencies.items()):
        axes.barh(
            position,
            latency.median * 1e3,
            xerr=latency.iqr / 2 * 1e3,
            color=ORANGE if "int8" in label else BLUE,
            capsize=4,
        )
        axes.annotate(
            f" {baseline / latency.median:.1f}×",
            ((latency.median + latency.iqr / 2) * 1e3, position),
            va="center",
        )
    axes.set(
        title=title,
        xlabel="time of one batch (ms): median, bar of half the IQR; "
        "× is speed against the first row",
        yticks=range(len(latencies)),
        yticklabels=list(latencies),
    )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    plt.close(figure)
    return figure
