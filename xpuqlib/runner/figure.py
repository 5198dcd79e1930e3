"""The figure of a sweep: accuracy over time, every run by its name, with how certain it is."""

import html

import pandas
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from xpuqlib.runner.front import clear_front, describe_front
from xpuqlib.show.style import BLACK, SKY, VERMILLION

__all__ = ["draw_runs"]

MODES = {"executed": ("o", BLACK), "rehearsed": ("s", VERMILLION), "reference": ("x", SKY)}
DOZEN = 12  # as many names fit beside the figure
BARS = "Bars: half the interquartile range of the times to each side, the 95 % interval (Wilson)"


def draw_runs(points: pandas.DataFrame, names: dict[str, str], title: str, legend: str) -> str:
    """Draw the runs of one lesson as HTML: an image in the page, and below it what it shows.

    Parameters
    ----------
    points : pandas.DataFrame
        From `measured`.
    names : dict of str to str
        What to call each run.
    title : str
        The lesson's.
    legend : str
        What the names consist of.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots()
    said, fronts = [], []
    for mode, (marker, colour) in MODES.items():
        chosen = points[points["outcome"] == mode]
        if chosen.empty:
            continue
        _draw_points(axes, chosen, marker, colour, mode)
        if mode == "reference":
            said.append("reference: no int8 kernel ran, so the times are not those of int8.")
        elif len(chosen) > 1:
            said.append(f"{mode}: {describe_front(chosen, names)}")
            if len(front := clear_front(chosen)) > 1:
                fronts += front
                x, y = chosen.loc[front, "latency"], chosen.loc[front, "accuracy"]
                label = f"Pareto front, {mode}"
                axes.step(x, y, "--", where="post", color=colour, lw=1, label=label)
    named = points if len(points) <= DOZEN else points.loc[fronts[:DOZEN]]
    _name_points(axes, named, names, legend)
    _set_axes(axes, points, title)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    if (images := points["images"].dropna()).any():
        least, most = f"{images.min():.0f}", f"{images.max():.0f}"
        number = least if least == most else f"{least} to {most}"
        said.append(f"{BARS} of an accuracy measured on {number} images.")
    if len(named) < len(points):
        shown = "only those on a front are named" if len(named) else "none is on a front or named"
        said.append(f"Of {len(points)} runs {shown}.")
    encoded = print_figure(figure, base64=True, bbox_inches=None, dpi=110)
    text = html.escape(f"Accuracy over time of {len(points)} runs. {' '.join(said)}")
    caption = "<br>".join(map(html.escape, said))
    image = f'<img alt="{text}" src="data:image/png;base64,{encoded}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _draw_points(
    axes: Axes, points: pandas.DataFrame, marker: str, colour: str, label: str
) -> None:
    # By rounding alone a share may lie outside of its interval: a bar has no negative length.
    sides = [points["accuracy"] - points["low"], points["high"] - points["accuracy"]]
    certain = points[["iqr", "low"]].notna()
    axes.errorbar(
        points["latency"],
        points["accuracy"],
        xerr=points["iqr"].fillna(0) / 2 if certain["iqr"].any() else None,
        yerr=[side.clip(lower=0).fillna(0) for side in sides] if certain["low"].any() else None,
        fmt="none",
        ecolor=colour,
        elinewidth=1,
        capsize=2,
    )
    # The bars end at the axes; a marker at 100 % is whole.
    place = points["latency"], points["accuracy"]
    axes.plot(*place, marker, color=colour, label=label, clip_on=False, zorder=3)


def _name_points(axes: Axes, points: pandas.DataFrame, names: dict[str, str], legend: str) -> None:
    """Write the names beside the axes, each with a line to its point: so none covers another."""
    side = {"textcoords": "axes fraction", "va": "center", "fontsize": 9}
    if len(points):
        axes.text(1.05, 1.03, legend, transform=axes.transAxes, fontsize=9, style="italic")
    ordered = points.sort_values(["accuracy", "latency"])
    line = {"arrowstyle": "-", "color": "#999999", "lw": 0.6, "relpos": (0, 0.5)}
    for row, (name, point) in enumerate(ordered.iterrows()):
        at, beside = (point["latency"], point["accuracy"]), (1.05, (row + 0.5) / len(ordered))
        axes.annotate(names[name], at, xytext=beside, arrowprops=line, **side)


def _set_axes(axes: Axes, points: pandas.DataFrame, title: str) -> None:
    wide = points["latency"].max() > 5 * points["latency"].min()
    axes.set(
        title=f"{title}: accuracy and time of each run",
        ylabel="top-1 accuracy, int8 (%)",
        xlabel=f"median time (ms per image{', log scale' if wide else ''})",
    )
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)),
            major_formatter=ScalarFormatter(),
            minor_formatter=NullFormatter(),
        )
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 100))
    axes.grid(alpha=0.3)
