"""Figures of graphs: which operators there are, and which dtypes they read and write."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import fx

from xpuqlib.recipe.compilation import Operator
from xpuqlib.recipe.layers import module_path
from xpuqlib.show.style import (
    BLACK,
    DTYPES,
    GREY,
    LABEL_BOX,
    PINK,
    SKY,
    VERMILLION,
    YELLOW,
    new_figure,
)

__all__ = ["draw_dtypes", "draw_graph", "draw_stages"]

_LONG = "_per_tensor|_low_memory_|_with_offsets"  # what Inductor adds to short names
KINDS = {
    "conv, linear": (BLACK, "conv|linear"),
    "quantize": (VERMILLION, "^quantize"),
    "dequantize": (YELLOW, "^dequantize"),
    "batch norm": (PINK, "batch_norm"),
    "pointwise": (SKY, "relu|add|hardtanh|clamp|mul"),
    "pooling": ("#777777", "pool|mean"),
    "other": (GREY, ""),
}
# Layers of a TorchScript graph: all that is int8 has its colour, told apart by the hatch.
LAYERS = {
    "batch norm": (PINK, "", "aten::batch_norm"),
    "fp32 conv, linear": (DTYPES["fp32"], "", r"aten::(_convolution|conv\dd|linear)"),
    "int8 conv": (DTYPES["int8"], "//", r"quantized::conv\dd"),
    "int8 conv with ReLU": (DTYPES["int8"], "", r"quantized::conv\dd_relu"),
    "int8 add": (DTYPES["int8"], "..", "quantized::add"),
    "int8 add with ReLU": (DTYPES["int8"], "xx", "quantized::add_relu"),
    "int8 linear": (DTYPES["int8"], "--", "quantized::linear(_relu)?"),
    "int8, fused by IPEX": (DTYPES["int8"], "||", "(torch_ipex::q|ipex::).*"),
}


def _kind(node: fx.Node) -> str:
    operator = getattr(node.target, "_opname", None) or str(node.target)
    return next(kind for kind, (_, words) in KINDS.items() if re.search(words, operator))


def _stage(node: fx.Node) -> str:
    path = module_path(node)
    return ".".join(path.split(".")[: 2 if path.startswith("features") else 1])


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
    figure, axes = new_figure(figsize=(11, 0.42 * len(rows) * 1.6 + 1.2))
    kinds = {node: _kind(node) for node in at}
    for node, (x, y) in at.items():
        color = KINDS[kinds[node]][0]
        axes.add_patch(Rectangle((x + 0.08, y), 0.84, 0.7, facecolor=color, zorder=2))
        for source in node.all_input_nodes:
            if source in at and at[source][1] == y and x - at[source][0] > 1:
                left = at[source][0] + 0.5
                height = 0.75 + min(0.06 * (x - left), 0.5)
                xs, ys = [left, left, x + 0.5, x + 0.5], [0.7, height, height, 0.7]
                axes.plot(xs, [y + up for up in ys], color="#555555", linewidth=0.8, zorder=1)
    for number, (stage, _) in enumerate(rows):
        axes.text(-0.4, -1.6 * number + 0.35, stage, ha="right", va="center", fontsize=9)
    margin = -max(len(stage) for stage, _ in rows) * width / 90 - 1
    axes.set(xlim=(margin, width + 0.5), ylim=(-1.6 * len(rows) + 1, 1.6), xticks=[], yticks=[])
    said = "operators in execution order, one row for each stage of the model"
    axes.set(title=title, xlabel=said)
    axes.spines[["top", "left", "right"]].set_visible(False)
    shown = [Patch(color=c, label=kind) for kind, (c, _) in KINDS.items() if kind in kinds.values()]
    below = (0.5, -0.25 / len(rows) - 0.08)
    axes.legend(handles=shown, ncols=7, loc="upper center", bbox_to_anchor=below, frameon=False)
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


def draw_dtypes(networks: dict[str, Sequence[Operator]], title: str) -> Figure:
    """Draw lowered graphs as strips, one box an operator: left what it reads, right what it writes.

    Parameters
    ----------
    networks : dict of str to sequence of Operator
        As in `xpuqlib.recipe.Compilation`, by the label of the strip.
    """
    names = {
        label: [re.sub(_LONG, "", operator.name)[:24] for operator in operators]
        for label, operators in networks.items()
    }
    longest = max(map(len, names.values()))
    letters = max(len(name) for strip in names.values() for name in strip) if longest <= 60 else 0
    size = (11, (0.75 + 0.1 * letters) * len(networks) + 1.1)
    figure, panels = new_figure(len(networks), figsize=size, squeeze=False)
    for axes, (label, operators) in zip(panels[:, 0], networks.items(), strict=True):
        lefts = [x + half for x in range(len(operators)) for half in (0.06, 0.5)]
        dtypes = [dtype for operator in operators for dtype in (operator.reads, operator.writes)]
        axes.bar(lefts, 1, 0.44, align="edge", color=[DTYPES.get(dtype, GREY) for dtype in dtypes])
        axes.set(xlim=(0, longest), ylim=(0, 1), yticks=[], xticks=[])
        axes.set_title(label, loc="left", fontsize=12)
        if letters:  # in a longer strip, names would lie over each other
            ticks = [x + 0.5 for x in range(len(operators))]
            axes.set_xticks(ticks, names[label], rotation=90, fontsize=10)
        axes.spines[:].set_visible(False)
    panels[-1, 0].set_xlabel(
        "operators, from input to output; left half: reads, right half: writes"
    )
    figure.legend(
        handles=[Patch(color=color, label=dtype) for dtype, color in DTYPES.items()],
        loc="outside lower center",
        ncols=len(DTYPES),
        frameon=False,
    )
    figure.suptitle(title)
    return figure


def draw_stages(stages: dict[str, dict[str, int]], seconds: dict[str, float], title: str) -> Figure:
    """Draw how often the layers of a TorchScript graph occur, stage by stage, and run times.

    Beside each bar stands how many of all nodes of that stage it shows.

    Parameters
    ----------
    stages : dict of str to dict of str to int
        From `xpuqlib.recipe.count_nodes`, by stage.
    seconds : dict of str to float
        Time of those stages that are runs. A run without any int8 node has the colour of fp32.
    title : str
    """
    size = (11, 0.45 * len(stages) + 2)
    figure, (left, right) = new_figure(1, 2, sharey=True, figsize=size, width_ratios=(2, 1))
    nodes = pandas.DataFrame(stages).fillna(0).astype(int)
    counts = {
        label: nodes[nodes.index.str.match(f"{words}$")].sum()
        for label, (_, _, words) in LAYERS.items()
    }
    found = pandas.DataFrame({label: n for label, n in counts.items() if n.any()})
    colors = [LAYERS[label][0] for label in found]
    look = {"width": 0.8, "edgecolor": "white", "legend": False}
    found.plot.barh(stacked=True, ax=left, color=colors, **look)
    for label, bars in zip(found, left.containers, strict=True):
        for bar in bars:
            bar.set_hatch(LAYERS[label][1])
        said = [f"{number:g}" if number else "" for number in bars.datavalues]
        for text in left.bar_label(bars, said, label_type="center"):
            text.set_bbox(LABEL_BOX if text.get_text() else None)
    for row, shown in enumerate(found.sum(axis=1)):
        said = f"{shown} of {nodes.iloc[:, row].sum()} nodes"
        left.annotate(said, (shown, row), (4, 0), textcoords="offset points", va="center")
    at = [list(stages).index(stage) for stage in seconds]
    int8 = found.filter(like="int8").sum(axis=1)
    ran = [DTYPES["int8" if int8[stage] else "fp32"] for stage in seconds]
    times = right.barh(at, [value * 1e3 for value in seconds.values()], color=ran)
    right.bar_label(times, fmt="%.3g ms", padding=3)
    left.invert_yaxis()
    left.set_xlim(0, 1.35 * found.sum(axis=1).max())  # room for what stands beside the bars
    right.margins(x=0.3)
    left.set_xlabel("nodes of these kinds in the graph")
    right.set_xlabel("time of one run (ms)")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    return figure
