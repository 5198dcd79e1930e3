"""The two kinds of page: about lessons, each executed once, or about the runs of a sweep."""

import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import itables
import pandas
import yaml
from itables.javascript import generate_init_offline_itables_html, to_html_datatable

from xpuqlib.runner.figure import draw_runs
from xpuqlib.runner.front import ACCURACY, BATCH, LATENCY, measured
from xpuqlib.runner.parameters import LessonParameters
from xpuqlib.runner.results import Result

__all__ = ["lessons_page", "runs_page", "varying"]

# Shown where the runs have them: name in the record, heading, factor, digits.
METRICS = yaml.safe_load(Path(__file__).with_name("report.yml").read_text(encoding="utf-8"))
LEAST_FOR_A_FIGURE = 3  # runs of one lesson
HINT = "Click the arrows of a heading to sort, type below a column to filter it."


def lessons_page(results: list[Result]) -> str:
    """Make the body of a page about lessons: one row each, in the order of their names."""
    rows = []
    for result in results:
        record = result.record
        row = {
            "lesson": f"{_link(result, result.title)}<br><small>{_text(result.path.stem)}</small>",
            "mode": _outcome(result.outcome) + (f" on {record.device}" if record else ""),
            "int8 kernels": record.int8_kernels() if record else "–",
            "drafted for an Intel GPU": record.int8_kernels("drafted") if record else "–",
            "SQNR to fp32 (dB)": _closeness(result),
            "claims that hold": _claims(result),
            "seconds": f"{result.seconds:.0f}",
            "left in floating point": _left(result),
        }
        rows.append(row | ({"error": _text(result.error)} if result.error else {}))
    table = pandas.DataFrame(rows).fillna("")
    with pandas.option_context("display.max_colwidth", None):
        return table.to_html(index=False, escape=False, border=0, classes="lessons") + (
            "<p>int8 kernels: convolutions and linear layers that run in one, of all in the model. "
            "drafted: those with an int8 call in the program that was written for an Intel GPU, "
            "and not executed. “–”: the lesson did not record it.</p>"
        )


def _closeness(result: Result) -> str:
    """SQNR in dB; where a lesson measures several ways of quantizing, their range and a list."""
    if not result.record:
        return "–"
    metrics, name = result.record.metrics, "sqnr_to_fp32_db"
    one = metrics.get(name, result.record.evidence.get("sqnr_to_fp32"))
    if one is not None:
        return f"{one:.1f}"
    labelled = {k.removeprefix(f"{name}: "): v for k, v in metrics.items() if v is not None}
    several = {k: v for k, v in labelled.items() if f"{name}: {k}" in metrics}
    if not several:
        return "–"
    listed = [f"{_text(label)}: {value:.1f}" for label, value in several.items()]
    return _folded(f"{min(several.values()):.1f} to {max(several.values()):.1f}", listed)


def _left(result: Result) -> str:
    evidence = result.record.evidence if result.record else {}
    if "layers" in evidence:
        left = [layer for layer in evidence["layers"] if not layer["generated"]]
        named = [f"{_text(x['name'])}: {_text(x['reason'] or 'reason unknown')}" for x in left]
        return _folded(f"{len(left)} layers", named) if left else "nothing"
    counts = evidence.get("counts", {}).values()
    left = sum(stages["in the model"] - stages["generated"] for stages in counts)
    return "–" if not counts else f"{left} layers, not named in the record" if left else "nothing"


def _claims(result: Result) -> str:
    """How many hold; those that do not are listed with their values."""
    if not result.record:
        return "–"
    failed = [claim for claim in result.record.claims if not claim.holds]
    said = [f"does not hold here: {_text(claim.text)}: {_text(claim.value)}" for claim in failed]
    held = result.record.claims_held()
    return _folded(held, said) if said else held


def _folded(summary: str, lines: list[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<details><summary>{summary}</summary><ul>{items}</ul></details>"


def runs_page(
    frame: pandas.DataFrame, results: list[Result], labels: dict[str, str], baseline: str | None
) -> str:
    """Make the body of a page about runs: a figure of each lesson with enough runs, and a table.

    Parameters
    ----------
    frame : pandas.DataFrame
        From `results_frame`.
    results : list of Result
        In the same order.
    labels : dict of str to str
        What to call each run, by the frame's index: ``model=resnet18,…``, or its file's name.
    baseline : str or None
        The run that others of its lesson are compared with.
    """
    names, points, titles = (
        _brief(frame, labels),
        measured(frame),
        {result.lesson: result.title for result in results},
    )
    legend = ", ".join(name.removeprefix("parameters.") for name in varying(frame))
    groups = dict(list(points.groupby("lesson")))
    enough = {k: found for k, found in groups.items() if len(found) >= LEAST_FOR_A_FIGURE}
    figures = [draw_runs(found, names, titles[lesson], legend) for lesson, found in enough.items()]
    none = f"No figure: it takes {LEAST_FOR_A_FIGURE} runs of a lesson with accuracy and time."
    table, same = _split_off_same(_table(frame, results, baseline))
    said = (
        f"Differences (Δ) are to {_text(labels[baseline].replace(',', ', '))}. " if baseline else ""
    )
    if same:
        said += (
            "The same in all runs that have it: "
            + "; ".join(f"{k} {v}" for k, v in same.items())
            + "."
        )
    figures = figures or [f"<p>{none}</p>"]
    return "\n".join([*figures, f"<p>{said}</p>", f"<p>{HINT}</p>", _interactive(table)])


def varying(frame: pandas.DataFrame) -> list[str]:
    """Columns of the parameters that have several values, in the order of the lessons'."""
    first = [f"parameters.{name}" for name in LessonParameters.model_fields]
    others = [name for name in frame if name.startswith("parameters.") and name not in first]
    return [name for name in first + others if name in frame and frame[name].nunique() > 1]


def _brief(frame: pandas.DataFrame, labels: dict[str, str]) -> dict[str, str]:
    """Values alone, each of a few characters; with the hash where they do not tell runs apart."""
    names, columns = {}, varying(frame)
    for run, label in labels.items():
        values = [frame.at[run, name] for name in columns]
        known = [_cut(str(value), 22) for value in values if pandas.notna(value)]
        own = [_cut(_short(run, frame.at[run, "lesson"]), 22)] if label == run else []
        names[run] = ", ".join(known + own)
    return names


def _cut(text: str, longest: int) -> str:
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[1 - half :]}"


def _table(
    frame: pandas.DataFrame, results: list[Result], baseline: str | None
) -> pandas.DataFrame:
    links = [_link(result, _short(result.path.stem, result.lesson)) for result in results]
    table = pandas.DataFrame({"run": links}, index=frame.index)
    several = ["lesson"] if frame["lesson"].nunique() > 1 else []
    for name in several + varying(frame):
        table[name.removeprefix("parameters.")] = frame[name].map(_value)
    table["outcome"] = frame["outcome"].map(_outcome)
    for name in frame.columns.intersection(["device", "int8_kernels", "drafted"]):
        table[name.replace("_", " ")] = frame[name].map(_text)
    if "claims" in frame:
        table["claims that hold"] = list(map(_claims, results))
    metrics = [name for name in frame if name.startswith("metrics.")]
    known = [metric for metric in METRICS if metric[0] in metrics]
    others = [(name, name.removeprefix("metrics."), 1, 4) for name in metrics[:8]]
    for name, heading, factor, digits in known or others:
        values = frame[name].astype("Float64") * factor  # nullable: what is missing stays empty
        table[_text(heading)] = values.round(digits)
        if baseline and name in (ACCURACY, LATENCY):
            heading, difference = _difference(frame, name, baseline)
            table[heading] = difference.where(frame["lesson"] == frame.loc[baseline, "lesson"])
    if "compiled_files" in frame:
        table["C++ files compiled"] = frame["compiled_files"].astype("Int64")
    table["seconds"] = frame["seconds"].round(1)
    if frame["error"].any():
        table["error"] = [f'<div class="error">{_text(error)}</div>' for error in frame["error"]]
    return table


def _difference(frame: pandas.DataFrame, name: str, baseline: str) -> tuple[str, pandas.Series]:
    values = frame[name].astype("Float64")
    if name == ACCURACY:
        return "Δ top-1 int8 (points)", (100 * (values - values[baseline])).round(1)
    values = values / frame.get(BATCH, pandas.Series(1, frame.index)).astype("Float64").fillna(1)
    return "Δ int8 (% per image)", (100 * (values / values[baseline] - 1)).round(1)


def _split_off_same(table: pandas.DataFrame) -> tuple[pandas.DataFrame, dict[str, Any]]:
    """Take out what is the same in every row, so that the table fits a laptop's screen."""
    if len(table) == 1:
        return table, {}
    found = {name: table[name].replace("", pandas.NA).dropna().unique() for name in table}
    one = [k for k, values in found.items() if len(values) <= 1 and k not in ("run", "error")]
    return table.drop(columns=one), {name: found[name][0] for name in one if len(found[name])}


def _interactive(table: pandas.DataFrame) -> str:
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
        autoWidth=False,
        classes="display compact",
        style="width:100%",
    )


def _text(value: object) -> str:
    return "" if pandas.isna(value) else html.escape(str(value))


def _value(value: object) -> str:
    short = _text(_cut(str(value), 48))
    return "" if pandas.isna(value) else f'<span title="{_text(value)}">{short}</span>'


def _outcome(outcome: str) -> str:
    return f'<span class="{outcome.split()[0]}">{outcome}</span>'


def _link(result: Result, text: str) -> str:
    target, name = result.page or result.path, _text(result.path.stem)
    return f'<a href="{_text(quote(target.name))}" title="{name}">{_text(text)}</a>'


def _short(name: str, lesson: str) -> str:
    """Show the hash of a run's name: its parameters have columns of their own."""
    found = re.search(r"-([0-9a-f]{12})$", name)
    return found[1][:6] if found else name.removeprefix(f"{lesson}-")
