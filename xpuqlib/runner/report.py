"""The report on a folder of runs: two tables for programs, one page for people."""

import html
from pathlib import Path
from string import Template

import itables
import pandas
import yaml
from IPython.core.pylabtools import print_figure
from itables.javascript import generate_init_offline_itables_html, to_html_datatable
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from pandas.api.types import infer_dtype

from xpuqlib.errors import RunError
from xpuqlib.runner.results import Result, read_results, results_frame, write_whole

__all__ = ["pareto_front", "write_report"]

# Shown where the runs have them: name in the record, heading, factor, digits.
METRICS = yaml.safe_load(Path(__file__).with_name("report.yml").read_text(encoding="utf-8"))
ACCURACY, LATENCY = "metrics.top1_quantized", "metrics.latency_quantized_s"
MODES = {"executed": ("o", "#0072b2"), "rehearsed": ("s", "#e69f00"), "reference": ("x", "#666666")}

PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


def write_report(folder: Path, baseline: str | None = None) -> Path:
    """Write ``results.csv``, ``results.parquet`` and ``index.html`` into a folder of runs.

    Parameters
    ----------
    folder : pathlib.Path
        With executed notebooks of `xpuq run` or `xpuq sweep`.
    baseline : str, optional
        Start of the name of the run that the others are compared with; the first one with a
        latency if None.

    Returns
    -------
    pathlib.Path
        The page; it needs no other file and no network, but links the notebooks beside it.

    Raises
    ------
    RunError
        If the folder holds no run, cannot be written, or not one run is the baseline.
    """
    results = read_results(folder)
    frame = results_frame(results)
    chosen = _baseline(frame, baseline)
    write_whole(folder / "results.csv", frame.to_csv())
    write_whole(folder / "results.parquet", _one_type_a_column(frame).to_parquet())
    counts, lessons = frame["outcome"].value_counts().sort_index(), frame["lesson"].unique()
    named = lessons[0] if len(lessons) == 1 else f"{len(lessons)} notebooks"
    page = PAGE.substitute(
        title=html.escape(f"{named}: {len(frame)} runs"),
        summary=html.escape(", ".join(f"{n} {outcome}" for outcome, n in counts.items())),
        figure=_figure(frame),
        baseline=f"Differences (Δ) are to {html.escape(chosen)}." if chosen else "",
        table=_table(frame, results, chosen),
    )
    write_whole(folder / "index.html", page)
    return folder / "index.html"


def _baseline(frame: pandas.DataFrame, start: str | None) -> str | None:
    if start is None:  # the first one that can be compared at all
        measured = frame.index[frame[LATENCY].notna()] if LATENCY in frame else []
        return measured[0] if len(measured) > 1 else None
    matches = [name for name in frame.index if name.startswith(start)]
    if len(matches) != 1:
        wrong = f"{start!r} is the start of {len(matches)} runs' names."
        raise RunError(wrong, f"Name one of the {len(frame)}, such as {frame.index[0]}.")
    return matches[0]


def _one_type_a_column(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Parquet wants one type in a column; what is mixed becomes text."""
    kinds = {name: infer_dtype(column) for name, column in frame.items()}
    mixed = [name for name, kind in kinds.items() if kind.startswith("mixed")]
    return frame.astype(dict.fromkeys(mixed, "string"))


def _varying(frame: pandas.DataFrame) -> list[str]:
    names = [name for name in frame if name.startswith("parameters.")]
    return [name for name in names if frame[name].nunique() > 1]


def _table(frame: pandas.DataFrame, results: list[Result], baseline: str | None) -> str:
    table = pandas.DataFrame({"run": map(_link, results)}, index=frame.index)
    for name in _varying(frame) or ["lesson"]:
        table[name.removeprefix("parameters.")] = frame[name].map(_cell)
    table["outcome"] = [f'<span class="{o.split()[0]}">{o}</span>' for o in frame["outcome"]]
    for name in frame.columns.intersection(["device", "int8_kernels"]):
        table[name.replace("_", " ")] = frame[name].map(_cell)
    metrics = [name for name in frame if name.startswith("metrics.")]
    known = [metric for metric in METRICS if metric[0] in metrics]
    others = [(name, name.removeprefix("metrics."), 1, 4) for name in metrics[:8]]
    for name, heading, factor, digits in known or others:
        values = frame[name].astype("Float64") * factor  # nullable: what is missing stays empty
        table[html.escape(heading)] = values.round(digits)
        if baseline and name == ACCURACY:
            table["Δ top-1 int8 (points)"] = (values - values[baseline]).round(1)
        if baseline and name == LATENCY:
            values = _per_image(frame).astype("Float64")
            table["Δ int8 (% per image)"] = (100 * (values / values[baseline] - 1)).round(1)
    if "compiled_files" in frame:
        table["C++ files compiled"] = frame["compiled_files"].astype("Int64")
    table["seconds"] = frame["seconds"].round(1)
    if frame["error"].any():
        table["error"] = frame["error"].map(_cell)
    # The page carries its scripts: it opens without a network.
    return generate_init_offline_itables_html(itables.options.dt_bundle) + to_html_datatable(
        table,
        connected=False,
        allow_html=True,
        showIndex=False,
        column_filters="footer",
        maxBytes=0,
        maxRows=0,
        maxColumns=0,
        lengthMenu=[25, 100, 1000],
        pageLength=25,
        classes="display compact",
        style="width:100%",
    )


def _cell(value: object) -> str:
    return "" if pandas.isna(value) else html.escape(str(value))


def _link(result: Result) -> str:
    target = result.page or result.path
    name = html.escape(result.path.stem)
    short = name.removeprefix(f"{html.escape(result.lesson)}-")  # what tells runs of a sweep apart
    return f'<a href="{html.escape(target.name)}" title="{name}">{short}</a>'


def pareto_front(latency: pandas.Series, accuracy: pandas.Series) -> list[str]:
    """Names of the runs than which none is both faster and more accurate, fastest first."""
    points = pandas.DataFrame({"latency": latency, "accuracy": accuracy}).dropna()
    points = points.sort_values(["latency", "accuracy"], ascending=[True, False])
    best_before = points["accuracy"].cummax().shift(fill_value=float("-inf"))
    return list(points.index[points["accuracy"] > best_before])


def _per_image(frame: pandas.DataFrame) -> pandas.Series:
    """Milliseconds; a run without batch size counts as one image."""
    images = frame.get("parameters.batch_size", pandas.Series(1, frame.index)).astype(float)
    return 1000 * frame[LATENCY].astype(float) / images.fillna(1)


def _figure(frame: pandas.DataFrame) -> str:
    """Accuracy over latency as an image in the page; empty where no run measured both."""
    if not {ACCURACY, LATENCY} <= set(frame) or frame[[ACCURACY, LATENCY]].dropna().empty:
        return f"<p>No figure: no run recorded {ACCURACY} and {LATENCY}.</p>"
    latency = _per_image(frame)
    accuracy = 100 * frame[ACCURACY].astype(float)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    fronts = []
    for mode, (marker, colour) in MODES.items():
        x, y = (values[frame["outcome"] == mode].dropna() for values in (latency, accuracy))
        if x.empty:
            continue
        axes.plot(x, y, marker, color=colour, label=mode)
        if mode != "reference":  # whose speed means nothing
            fronts += (front := pareto_front(x, y))
            axes.step(
                x[front],
                y[front],
                "--",
                where="post",
                color=colour,
                lw=1,
                label=f"Pareto front, {mode}",
            )
    for name in fronts[:8]:
        label = ", ".join(str(frame.loc[name, column]) for column in _varying(frame)) or name
        axes.annotate(
            label,
            (latency[name], accuracy[name]),
            xytext=(5, -12),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(
        title="Accuracy and latency of each run",
        ylabel="top-1 accuracy, int8 (%)",
        xlabel="median latency (ms per image, log scale)",
        xscale="log",
    )
    axes.xaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=ScalarFormatter(),
        minor_formatter=NullFormatter(),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    encoded = print_figure(figure, base64=True, bbox_inches=None, dpi=110)
    text = f"Accuracy over latency of {len(frame)} runs; Pareto front: {', '.join(fronts)}"
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{encoded}">'
