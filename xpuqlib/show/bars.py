"""Bars: what each row measures, coloured by what ran in it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpuqlib.proof.cost import Latency
from xpuqlib.show.style import LABEL_BOX, SKY, dtype_patch, new_figure

__all__ = ["draw_bars", "draw_calibration_sets", "draw_latency"]


def draw_bars(
    table: pandas.DataFrame,
    title: str,
    *,
    errors: pandas.DataFrame | None = None,
    ran: Mapping[str, str] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Draw one panel of horizontal bars for each column, one bar for each row.

    Parameters
    ----------
    table : pandas.DataFrame
        Numbers; a column's name, with its unit, labels its panel, and one in % ends at 100.
        Missing numbers have no bar.
    title : str
    errors : pandas.DataFrame, optional
        Half widths of error bars, for some of the columns.
    ran : mapping of str to str, optional
        What ran in each row, which gives its colour: ``int8``, ``bf16``, ``fp32``, or two of them
        with a comma. One colour for all rows if None.
    baseline : str, optional
        The row that the others are compared with in each column of ms: a dashed line, and at each
        bar how many times as fast it is.
    """
    patches = [dtype_patch(ran[str(row)]) for row in table.index] if ran else []
    legend = {patch.get_label(): patch for patch in patches}
    height = 0.6 * len(table) + 1.2 + 0.4 * bool(legend)
    size = (min(5 + 3 * table.shape[1], 11), height)
    figure, panels = new_figure(1, table.shape[1], sharey=True, squeeze=False, figsize=size)
    for axes, (column, values) in zip(panels[0], table.astype(float).items(), strict=True):
        known = errors is not None and column in errors
        error = errors.loc[table.index, column] if known else None
        bars = axes.barh(list(map(str, table.index)), values, xerr=error, color=SKY, capsize=4)
        for bar, patch in zip(bars, patches, strict=False):
            bar.set(facecolor=patch.get_facecolor(), hatch=patch.get_hatch())
            bar.set(edgecolor=patch.get_edgecolor() if patch.get_hatch() else "none")
        ends = values + (0 if error is None else error)
        if "(ms)" not in str(column):
            said = {row: f"{value:.4g}" for row, value in values.items()}
        else:
            said = _times(values, baseline, ", " if table.shape[1] == 1 else "\n")
            if baseline is not None:
                axes.axvline(values[baseline], color="black", linestyle="--", linewidth=1)
        _label(axes, column, ends, said)
        axes.set_xlabel(column)
    panels[0][0].invert_yaxis()
    if legend:
        figure.legend(handles=legend.values(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize="medium")
    return figure


def _times(values: pandas.Series, baseline: str | None, between: str) -> dict[str, str]:
    """Write each time, and how it compares with the baseline."""
    said = {row: f"{value:.3g} ms" for row, value in values.items()}
    if baseline is not None:
        for row, value in values.items():
            faster = f"{values[baseline] / value:.2g}× as fast"
            said[row] += between + ("baseline" if row == baseline else faster)
    return said


def _label(axes: Axes, column: str, ends: pandas.Series, said: Mapping[str, str]) -> None:
    percent = "%" in column
    if percent:
        axes.set_xlim(0, 100)
    else:  # room for the longest label beside the longest bar
        two_lines = any("\n" in text for text in said.values())
        axes.margins(x=1.3 if two_lines else 0.45)
    for row, (label, end) in enumerate(ends.items()):
        if end != end:
            continue
        inside = percent and end > 75
        at = min(max(end, 0), 100) if percent else max(end, 0)
        shift = (-4 if inside else 4, 0)
        text = {"xytext": shift, "textcoords": "offset points", "va": "center", "bbox": LABEL_BOX}
        axes.annotate(said[label], (at, row), ha="right" if inside else "left", **text)


def draw_latency(
    latencies: dict[str, Latency],
    title: str,
    *,
    ran: Mapping[str, str] | None = None,
    baseline: str | None = None,
) -> Figure:
    """Draw median and interquartile range of one call, in milliseconds.

    Parameters
    ----------
    latencies : dict of str to Latency
    title : str
    ran : mapping of str to str, optional
        As for `draw_bars`.
    baseline : str, optional
        The row that the others are compared with: compiled fp32, where there is one.
    """
    column = "time of one batch (ms): median, bar of half the IQR"
    table = pandas.DataFrame({column: {name: 1e3 * x.median for name, x in latencies.items()}})
    errors = pandas.DataFrame({column: {name: x.iqr / 2e-3 for name, x in latencies.items()}})
    return draw_bars(table, title, errors=errors, ran=ran, baseline=baseline)


def draw_calibration_sets(by_set: dict[str, dict[str, float | None]], title: str) -> Figure:
    """Draw accuracy (or agreement, without labels) and SQNR for each calibration set."""
    table = pandas.DataFrame(by_set).T.astype(float).round(3)
    share = "agreement" if table["top1"].isna().any() else "top1"
    words = {"agreement": "agreement with fp32 (%)", "top1": "accuracy (%)"}
    shown = {
        f"{words[share]}, higher is better": table[share] * 100,
        "SQNR against fp32 (dB), higher is better": table["sqnr_to_fp32_db"],
    }
    return draw_bars(pandas.DataFrame(shown), title)
