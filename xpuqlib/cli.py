"""The command line ``xpuq``: a thin face of the runner."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xpuqlib.errors import XpuqError
from xpuqlib.names import DEVICES

if TYPE_CHECKING:
    from xpuqlib.runner.results import Result

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="int8 post-training quantization lessons for Intel GPUs.",
)
CONSOLE = Console()
Argument, Option = typer.Argument, typer.Option
Text, Texts = str | None, list[str] | None
COLOURS = {"ok": "green", "passed": "green", "warning": "yellow"}

# The arguments of the commands; each default stands in the command.
AsJson = Annotated[bool, Option("--json", help="Print the checks as JSON.")]
Names = Annotated[Texts, Argument(help="Paths, or starts of names such as 03; all if none.")]
Name = Annotated[str, Argument(help="A path, or the start of a lesson's name.")]
OneName = Annotated[Text, Argument(help="A path, or a name's start; all parameters if none.")]
OneValue = Annotated[Texts, Option("-p", metavar="NAME=VALUE", help="For every notebook named.")]
ManyValues = Annotated[
    Texts, Option("-p", metavar="NAME=VALUE,…", help="Values of a parameter; all are combined.")
]
Device = Annotated[Text, Option(metavar="|".join(DEVICES), help="Short for -p device=….")]
Out = Annotated[Path | None, Option(help="Folder for results.  [default: runs/DATE-TIME]")]
GridFile = Annotated[
    Path | None, Option("--grid", help="YAML file with parameters, exclude, include.")
]
Jobs = Annotated[int, Option(min=1, help="Kernels at a time; several disturb each other's times.")]
Scheduler = Annotated[Text, Option(metavar="tcp://HOST:PORT", help="A Dask scheduler.")]
Resources = Annotated[
    Text, Option(metavar="NAME=NUMBER,…", help="What a run takes of a Dask worker: XPU=1.")
]
Resume = Annotated[bool, Option("--resume", help="Keep what passed in --out, execute the rest.")]
Timeout = Annotated[
    float | None, Option(metavar="SECONDS", help="End a run's kernel after this time.")
]
Folder = Annotated[Path, Argument(help="Folder of `xpuq run` or `xpuq sweep`.")]
Baseline = Annotated[Text, Option(metavar="RUN", help="Differences are to this run (its start).")]
Before = Annotated[Path, Argument(help="Folder of runs: one machine, one version.")]
After = Annotated[Path, Argument(help="Folder of the same runs elsewhere.")]
Slower = Annotated[float, Option(help="Fraction by which a latency may grow.")]
Top1 = Annotated[float, Option(help="By how much an accuracy may fall.")]
Markdown = Annotated[bool, Option("--markdown", help="As in the README.")]


def _coloured(word: str) -> str:
    colour = COLOURS.get(word, "red")
    return f"[{colour}]{word}[/{colour}]"


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine; exit 1 when a lesson could not run."""
    from xpuqlib.runner.doctor import PROBLEM, diagnose

    checks = diagnose()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        table = Table("check", "", "found", "mend", title="xpuq doctor")
        for check in checks:
            found, mend = escape(check.found), escape(check.mend)
            table.add_row(check.name, _coloured(check.status), found, mend)
        CONSOLE.print(table)
    raise typer.Exit(any(check.status == PROBLEM for check in checks))


@app.command()
def run(
    notebooks: Names = None, p: OneValue = None, device: Device = None, out: Out = None
) -> None:
    """Execute notebooks in order, each in its own kernel; exit 1 if any failed."""
    from xpuqlib.runner.execute import execute, find_notebooks, plan
    from xpuqlib.runner.kernel import INTERRUPTED
    from xpuqlib.runner.parameters import split_assignments

    values = split_assignments([*(p or []), *([f"device={device}"] if device else [])])
    jobs = plan(find_notebooks(notebooks or []), values)
    out, results = out or _new_folder(), []
    interrupted = False
    for number, job in enumerate(jobs, start=1):
        try:
            CONSOLE.print(f"[bold]{number}/{len(jobs)} {escape(job.notebook.stem)}[/bold]")
            results.append(execute(job, out))
            interrupted = results[-1].result == INTERRUPTED
        except KeyboardInterrupt:
            interrupted = True  # between two notebooks, or while a page was written
        if interrupted:
            break
    table = Table("notebook", "device", "mode", "seconds", "result")
    for r in results:
        record = (r.record.device, r.record.mode) if r.record else ("–", "–")
        table.add_row(r.lesson, *record, f"{r.seconds:.0f}", _with_error(r))
    CONSOLE.print(table)
    _end(results, len(jobs), out, "notebooks", interrupted)


@app.command()
def sweep(
    notebook: Name,
    p: ManyValues = None,
    grid: GridFile = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    resources: Resources = None,
    out: Out = None,
    resume: Resume = False,
    timeout: Timeout = None,
) -> None:
    """Execute a notebook over a grid of parameters; exit 1 if any run failed."""
    from xpuqlib.errors import ParameterError
    from xpuqlib.runner.execute import find_notebooks
    from xpuqlib.runner.grid import Grid, read_grid
    from xpuqlib.runner.parameters import split_assignments
    from xpuqlib.runner.results import read_results
    from xpuqlib.runner.sweeps import sweep as start

    if grid and p:
        raise ParameterError("Both -p and --grid are given.", "Put all values into the file.")
    lists = {name: value.split(",") for name, value in split_assignments(p or []).items()}
    chosen = read_grid(grid) if grid else Grid(parameters=lists)
    if resources and not scheduler:
        raise ParameterError("--resources needs --scheduler.", "They belong to Dask's workers.")
    try:
        pairs = [pair.split("=") for pair in resources.split(",")] if resources else []
        amounts = {name: float(number) for name, number in pairs}
    except ValueError as error:
        raise ParameterError(f"--resources {resources} is unclear.", "Write XPU=1.") from error
    [path] = find_notebooks([notebook])
    out, interrupted = out or _new_folder(), False
    try:
        results = start(path, chosen, out, jobs=jobs, scheduler=scheduler, resources=amounts,
                        resume=resume, timeout=timeout)  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
        results = read_results(out) if any(out.glob("*.ipynb")) else []
    if failed := [r for r in results if r.result != "passed"]:
        table = Table("run", "parameters", "result")
        for r in failed:
            table.add_row(r.path.stem, escape(str(r.parameters)), _with_error(r))
        CONSOLE.print(table)
    planned = len(chosen.runs()) if interrupted else len(results)
    _end(results, planned, out, "runs", interrupted)


@app.command()
def report(folder: Folder, baseline: Baseline = None) -> None:
    """Make results.csv, results.parquet and index.html from a folder of runs."""
    from xpuqlib.runner.report import write_report

    CONSOLE.print(f"Report: {escape(str(write_report(folder, baseline)))}", soft_wrap=True)


@app.command()
def compare(before: Before, after: After, slower: Slower = 0.1, top1: Top1 = 0.01) -> None:
    """Show what got slower, less accurate or lost its int8 kernels; exit 1 if anything did."""
    from xpuqlib.runner.results import compare as find_losses
    from xpuqlib.runner.results import read_results

    losses = find_losses(read_results(before), read_results(after), slower, top1)
    if losses["lesson"].nunique() == 1:
        losses = losses.drop(columns="lesson")
    table = Table(*losses.columns)
    for row in losses.itertuples(index=False):
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        table.add_row(*map(escape, cells))
    CONSOLE.print(table if len(losses) else "Nothing got worse.")
    raise typer.Exit(len(losses) > 0)


@app.command()
def parameters(notebook: OneName = None, markdown: Markdown = False) -> None:
    """Print every parameter: name, type, choices, default, meaning."""
    from xpuqlib.runner.execute import find_notebooks
    from xpuqlib.runner.parameters import describe_parameters

    described = describe_parameters(find_notebooks([notebook])[0] if notebook else None)
    rows = [list(map(str, row)) for row in described.itertuples(index=False)]
    if markdown:
        lines = [list(described.columns), ["---"] * len(described.columns), *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    table = Table(*described.columns)
    for row in rows:
        table.add_row(*map(escape, row))
    CONSOLE.print(table)


def _new_folder() -> Path:
    return Path("runs") / time.strftime("%Y%m%d-%H%M%S")


def _with_error(result: Result) -> str:
    return _coloured(result.result) + (f" {escape(result.error)}" if result.error else "")


def _end(results: list[Result], planned: int, out: Path, what: str, interrupted: bool) -> None:
    from xpuqlib.runner.report import write_report

    passed = sum(result.result == "passed" for result in results)
    summary = f"{passed} of {planned} {what} passed."
    if results:
        summary += f" Results: {write_report(out)}"
    CONSOLE.print(escape(summary), soft_wrap=True)
    if interrupted:
        raise typer.Exit(130)
    raise typer.Exit(passed < planned)


def main() -> None:
    """Entry point: errors of our own are a message and exit code 2, not a traceback."""
    try:
        app()
    except XpuqError as error:
        message = f"[red]xpuq:[/red] {escape(str(error))}"
        Console(stderr=True).print(message, soft_wrap=True, highlight=False)
        sys.exit(2)
