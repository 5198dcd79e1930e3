"""The report on a folder of runs: two tables for programs, one page for people."""

import html
import json
from difflib import get_close_matches
from pathlib import Path
from string import Template
from typing import Any

import pandas
from pandas.api.types import infer_dtype
from pydantic import TypeAdapter, ValidationError

from xpuqlib.errors import RunError
from xpuqlib.machine.files import write_whole
from xpuqlib.runner.front import LATENCY
from xpuqlib.runner.pages import lessons_page, runs_page, varying
from xpuqlib.runner.results import Result, read_results, results_frame

__all__ = ["write_report"]

PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


def write_report(folder: Path, baseline: str | None = None) -> Path:
    """Write ``results.csv``, ``results.parquet`` and ``index.html`` into a folder of runs.

    The page is about runs where the folder holds a lesson more than once, as a sweep leaves it.
    Where each lesson is there once, as `xpuq run` leaves it, the page is about the lessons.

    Parameters
    ----------
    folder : pathlib.Path
        With executed notebooks of `xpuq run` or `xpuq sweep`.
    baseline : str, optional
        The run that the others are compared with, by its parameters (``model=resnet18,…``, as
        many as tell it apart) or by the start of its name; the first one with a latency if None.

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
    lessons = {result.lesson: result.title for result in results}
    about_runs = len(lessons) < len(results)
    title = next(iter(lessons.values())) if len(lessons) == 1 else f"{len(lessons)} lessons"
    if about_runs:
        title, labels = f"{title}: {len(results)} runs", _labels(frame)
        chosen = _baseline(frame, results, labels, baseline)
        body = runs_page(frame, results, labels, chosen)
    elif baseline is not None:
        raise RunError(
            f"{folder} holds no lesson more than once: nothing to compare with {baseline}.",
            "Leave --baseline out, or name the folder of a sweep.",
        )
    else:
        body = lessons_page(results)
    write_whole(folder / "results.csv", frame.to_csv())
    write_whole(folder / "results.parquet", _one_type_a_column(frame).to_parquet())
    counts = frame["outcome"].value_counts().sort_index()
    summary = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    page = PAGE.substitute(title=html.escape(title), summary=html.escape(summary), body=body)
    write_whole(folder / "index.html", page)
    return folder / "index.html"


def _labels(frame: pandas.DataFrame) -> dict[str, str]:
    """Call each run by the parameters that vary, or by its file where these do not tell it."""
    columns = varying(frame)
    labels = pandas.Series(
        [
            ",".join(
                f"{c.removeprefix('parameters.')}={row[c]}" for c in columns if pandas.notna(row[c])
            )
            for _, row in frame.iterrows()
        ],
        frame.index,
    )
    return labels.mask(labels.duplicated(keep=False) | (labels == ""), frame.index).to_dict()


def _baseline(
    frame: pandas.DataFrame, results: list[Result], labels: dict[str, str], asked: str | None
) -> str | None:
    if asked is None:  # the first one that can be compared at all
        measured = frame.index[frame[LATENCY].notna()] if LATENCY in frame else []
        return measured[0] if len(measured) > 1 else None
    matches = [name for name in frame.index if name.startswith(asked)]
    if not matches and "=" in asked:
        pairs = dict(pair.partition("=")[::2] for pair in asked.split(","))
        matches = [result.path.stem for result in results if _has(result, pairs)]
    if len(matches) == 1:
        return matches[0]
    choices = [labels[name] for name in matches or frame.index]
    nearest = get_close_matches(asked, choices, n=3, cutoff=0)
    raise RunError(
        f"--baseline {asked} is {len(matches)} of the {len(frame)} runs, not one.",
        f"Name one, such as --baseline {', or --baseline '.join(nearest)}.",
    )


def _has(result: Result, pairs: dict[str, str]) -> bool:
    own = (result.record.parameters if result.record else {}) | result.parameters
    return all(name in own and _is(own[name], text) for name, text in pairs.items())


def _is(value: Any, text: str) -> bool:
    if isinstance(value, list | dict):
        return json.dumps(value) == text
    try:
        return TypeAdapter(type(value)).validate_python(text) == value
    except ValidationError:
        return False


def _one_type_a_column(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Parquet wants one type in a column; what is mixed becomes text."""
    kinds = {name: infer_dtype(column) for name, column in frame.items()}
    mixed = [name for name, kind in kinds.items() if kind.startswith("mixed")]
    return frame.astype(dict.fromkeys(mixed, "string"))
