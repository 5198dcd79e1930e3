"""The command line ``xpuq``: a thin face of the runner."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Exit, Typer

from xpuqlib import arguments as arg
from xpuqlib.errors import ParameterError, XpuqError
from xpuqlib.names import MODELS

if TYPE_CHECKING:
    from xpuqlib.runner.results import Result

app = Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="int8 post-training quantization lessons for Intel GPUs.",
)
CONSOLE = Console(markup=False, emoji=False)  # an error or a fix may hold [brackets]
say = partial(CONSOLE.print, soft_wrap=True)  # a path is not broken
COLOURS = {"ok": "green", "passed": "green", "warning": "yellow"}


def _coloured(word: str, more: str = "") -> Text:
    return Text.assemble((word, COLOURS.get(word, "red")), f" {more}".rstrip())


def _cell(value: object) -> str | Text:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return value if isinstance(value, Text) else text


def _print_table(columns: Iterable[str], rows: Iterable, title: str | None = None) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(_cell, row))
    CONSOLE.print(table)


@app.command()
def doctor(as_json: arg.AsJson = False) -> None:
    """Check this machine; exit 1 when a lesson could not run."""
    from xpuqlib.machine.doctor import PROBLEM, diagnose

    checks = diagnose()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        rows = ((c.name, _coloured(c.status), c.found, c.fix) for c in checks)
        _print_table(("check", "", "found", "fix"), rows, title="xpuq doctor")
    raise Exit(any(check.status == PROBLEM for check in checks))


@app.command()
def run(
    notebooks: arg.Names = None,
    p: arg.Value = None,
    device: arg.Device = None,
    language: arg.Language = None,
    out: arg.Out = None,
) -> None:
    """Execute notebooks in order, each in its own kernel; exit 1 if any failed."""
    from xpuqlib.runner import describe_translation, execution, find_language, kernel, parameters

    catalogues = find_language(language) if language else None
    values = parameters.split_assignments((p or []) + ([f"device={device}"] if device else []))
    found = execution.find_notebooks(notebooks or [])
    jobs = execution.plan(found, values, catalogues=catalogues)
    out, results, interrupted = out or _new_folder(), [], False
    try:
        for number, job in enumerate(jobs, start=1):
            CONSOLE.print(f"{number}/{len(jobs)} {job.notebook.stem}", style="bold")
            if catalogues:
                say(f"  {language}: {describe_translation(job.notebook, catalogues)}")
            results.append(execution.execute(job, out))
            if results[-1].result == kernel.INTERRUPTED:
                raise KeyboardInterrupt
    except KeyboardInterrupt:  # also between two notebooks, or while a page was written
        interrupted = True
    rows = []
    for r in results:
        record = (r.record.device, r.record.mode) if r.record else ("–", "–")
        rows.append((r.lesson, *record, round(r.seconds), _coloured(r.result, r.error)))
    _print_table(("notebook", "device", "mode", "seconds", "result"), rows)
    _end(results, len(jobs), out, "notebooks", interrupted)


@app.command()
def sweep(
    notebook: arg.Name,
    p: arg.Values = None,
    grid: arg.GridFile = None,
    jobs: arg.Jobs = 1,
    scheduler: arg.Scheduler = None,
    resources: arg.Resources = None,
    out: arg.Out = None,
    resume: arg.Resume = False,
    timeout: arg.Timeout = None,
) -> None:
    """Execute a notebook over a grid of parameters; exit 1 if any run failed."""
    from xpuqlib.runner import execution, parameters, results, sweeps
    from xpuqlib.runner.grid import Grid, read_grid

    if grid and p:
        raise ParameterError("Both -p and --grid are given.", "Put all values into the file.")
    values = parameters.split_assignments(p or [])
    lists = {name: value.split(",") for name, value in values.items()}
    chosen = read_grid(grid) if grid else Grid(parameters=lists)
    if resources and not scheduler:
        raise ParameterError("--resources needs --scheduler.", "They belong to Dask's workers.")
    try:
        pairs = dict(pair.split("=") for pair in resources.split(",")) if resources else {}
        amounts = {name: float(number) for name, number in pairs.items()}
    except ValueError as error:
        raise ParameterError(f"--resources {resources} is unclear.", "Write XPU=1.") from error
    [path] = execution.find_notebooks([notebook])
    out = out or _new_folder()
    try:
        where = {"jobs": jobs, "scheduler": scheduler, "resources": amounts}
        ended = sweeps.sweep(path, chosen, out, resume=resume, timeout=timeout, **where)
        planned, interrupted = len(ended), False
    except KeyboardInterrupt:
        planned, interrupted = len(chosen.runs()), True
        ended = results.read_results(out) if any(out.glob("*.ipynb")) else []
    if failed := [r for r in ended if r.result != "passed"]:
        rows = ((r.path.stem, r.parameters, _coloured(r.result, r.error)) for r in failed)
        _print_table(("run", "parameters", "result"), rows)
    _end(ended, planned, out, "runs", interrupted)


@app.command()
def report(folder: arg.Folder, baseline: arg.Baseline = None) -> None:
    """Make results.csv, results.parquet and index.html from a folder of runs."""
    from xpuqlib.runner.report import write_report

    say(f"Report: {write_report(folder, baseline)}")


@app.command()
def compare(
    before: arg.Before, after: arg.After, slower: arg.Slower = 0.1, top1: arg.Top1 = 0.01
) -> None:
    """Show what got slower, less accurate, lost int8 kernels or a claim; exit 1 if anything did."""
    from xpuqlib.runner import kept, results

    losses = results.compare(*map(kept.read_runs, (before, after)), slower, top1)
    if losses.empty:
        CONSOLE.print("Nothing got worse.")
        return
    if losses["lesson"].nunique() == 1:
        losses = losses.drop(columns="lesson")
    _print_table(losses.columns, losses.to_numpy())
    raise Exit(1)


@app.command()
def parameters(notebook: arg.OneName = None, markdown: arg.Markdown = False) -> None:
    """Print every parameter: name, type, choices, default, meaning."""
    from xpuqlib.runner.execution import find_notebooks
    from xpuqlib.runner.parameters import describe_parameters

    table = describe_parameters(find_notebooks([notebook])[0] if notebook else None)
    rows = table.astype(str).to_numpy().tolist()
    if markdown:
        for row in (table.columns, ["---"] * len(table.columns), *rows):
            print(f"| {' | '.join(row)} |")
    else:
        _print_table(table.columns, rows)


@app.command()
def draft(
    models: arg.TorchvisionNames = None,
    p: arg.Value = None,
    out: arg.Programs = Path("drafts"),
    check: arg.ToCheck = None,
) -> None:
    """Write and simulate the programs for an Intel GPU; exit 1 if a layer lacks its int8 call."""
    from xpuqlib.runner import drafts, parameters

    if bool(models) == bool(check):
        raise ParameterError("Name models, or a file to --check.", "xpuq draft resnet18")
    if check:
        differences = drafts.check_draft(check)
        say("\n".join(differences) or "The program that Inductor writes here executes the same.")
        raise Exit(bool(differences))
    values = parameters.split_assignments(p or [])
    recipes, made = [drafts.read_recipe(model, values) for model in models], []
    for number, recipe in enumerate(recipes, start=1):
        CONSOLE.print(f"{number}/{len(recipes)} {recipe.model}", style="bold")
        try:
            made.append(drafts.draft_model(recipe))
        except XpuqError as error:  # the others go on
            say(f"  {error}")
            continue
        made[-1].write(out)
        for layer, reason in made[-1].left.items():
            say(f"  not in int8: {layer}: {reason}")
    if made:
        rows = [one.row() for one in made]
        title = "drafted and simulated, not executed"
        _print_table(rows[0], (row.values() for row in rows), title=title)
        say(f"Programs: {out}")
    raise Exit(len(made) < len(recipes) or any(one.missing for one in made))


@app.command()
def ship(run: arg.LessonRun, out: arg.NewFolder, device: arg.PackageDevice = "cpu") -> None:
    """Package the model of a run of lesson 09, prove it, and write a folder that needs no kit."""
    from xpuqlib.runner.shipping import ship_run

    if device not in ("cpu", "xpu"):
        raise ParameterError(f"No int8 package is made for {device!r}.", "--device cpu, or xpu")
    shipped = ship_run(run, out, device)
    calls = sum(shipped.content.int8_calls.values())
    say(f"{calls} int8 calls in {out}. Where torch is installed: python {out / 'run.py'}")


@app.command()
def classroom(
    folder: arg.CourseFolder = None,
    lessons: arg.Lessons = None,
    language: arg.Language = None,
    check: arg.Proof = False,
    jobs: arg.Jobs = 1,
) -> None:
    """Make an nbgrader course from the lessons, or prove that they grade; exit 1 if not."""
    from xpuqlib.classroom import course, grading
    from xpuqlib.runner.execution import find_notebooks
    from xpuqlib.runner.language import describe_translation, find_language

    catalogues = find_language(language) if language else None
    if not (folder or check):
        raise ParameterError("No folder is named.", "xpuq classroom DIR, or xpuq classroom --check")
    chosen = find_notebooks(lessons.split(",") if lessons else [])
    if folder:
        made = course.make_course(folder, chosen, catalogues)
        for lesson in chosen if catalogues else ():
            say(f"{lesson.stem}: {describe_translation(lesson, catalogues)}")
        say(f"Course: {made}; begin with its INSTRUCTOR.md")
    if check:
        graded = grading.prove(chosen, jobs, catalogues)
        shown = graded.assign(ok=[_coloured("ok" if ok else "wrong") for ok in graded["ok"]])
        shown["lesson"] = shown["lesson"].str[:2]
        _print_table(shown.columns, shown.to_numpy())
        CONSOLE.print(f"{graded['ok'].sum()} of {len(graded)} are graded as they must be.")
        raise Exit(not graded["ok"].all())


@app.command()
def prefetch(
    weights: arg.Weights = "digits", model: arg.Models = None, check: arg.Whole = False
) -> None:
    """Fill the caches for a room without a network; exit 1 if --check finds them incomplete."""
    from xpuqlib.classroom import caches

    if check:
        gone = ", ".join(caches.missing())
        say(f"Gone or damaged: {gone}. Fix: xpuq prefetch" if gone else "All is there.")
        raise Exit(bool(gone))
    manifest = caches.prefetch(tuple(model or MODELS), tuple(dict.fromkeys(("digits", weights))))
    say(f"Manifest: {manifest}. Copy its folder, and set XPUQLIB_CACHE to the copy.")


def _new_folder() -> Path:
    return Path("runs") / time.strftime("%Y%m%d-%H%M%S")


def _end(results: "list[Result]", planned: int, out: Path, what: str, interrupted: bool) -> None:
    from xpuqlib.runner.report import write_report

    passed = sum(result.result == "passed" for result in results)
    written = f" Results: {write_report(out)}" if results else ""
    say(f"{passed} of {planned} {what} passed.{written}")
    raise Exit(130 if interrupted else passed < planned)


def main() -> None:
    """Entry point: errors of our own are a message and exit code 2, not a traceback."""
    try:
        app()
    except XpuqError as error:
        Console(stderr=True).print(Text.assemble(("xpuq:", "red"), f" {error}"), soft_wrap=True)
        sys.exit(2)
