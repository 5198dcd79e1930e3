"""The command line ``xpuq``: a thin face of the runner."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xpuqlib.errors import XpuqError
from xpuqlib.names import DEVICES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="int8 post-training quantization lessons for Intel GPUs.",
)
COLOURS = {"ok": "green", "passed": "green", "warning": "yellow"}


def _coloured(word: str) -> str:
    colour = COLOURS.get(word, "red")
    return f"[{colour}]{word}[/{colour}]"


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
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
        Console().print(table)
    raise typer.Exit(any(check.status == PROBLEM for check in checks))


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(help="Paths, or starts of names such as 03; all lessons if none."),
    ] = None,
    p: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="NAME=VALUE", help="Parameter for every notebook named."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="|".join(DEVICES), help="Short for -p device=….")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  [default: runs/DATE-TIME]")
    ] = None,
) -> None:
    """Execute notebooks in order, each in its own kernel; exit 1 if any failed."""
    from xpuqlib.runner.execute import execute, find_notebooks, plan, write_index
    from xpuqlib.runner.parameters import split_assignments

    values = split_assignments([*(p or []), *([f"device={device}"] if device else [])])
    jobs = plan(find_notebooks(notebooks or []), values)
    out = out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    console, results = Console(), []
    interrupted = False
    for number, job in enumerate(jobs, start=1):
        try:
            console.print(f"[bold]{number}/{len(jobs)} {escape(job.notebook.stem)}[/bold]")
            results.append(execute(job, out))
            interrupted = results[-1].result == "interrupted"
        except KeyboardInterrupt:
            interrupted = True  # between two notebooks, or while a page was written
        if interrupted:
            break
    table = Table("notebook", "device", "mode", "seconds", "result")
    for r in results:
        shown = _coloured(r.result) + (f" {escape(r.error)}" if r.error else "")
        notebook, device_name, mode, _, seconds = map(escape, r.cells())  # what fits 80 columns
        table.add_row(notebook, device_name, mode, seconds, shown)
    index = write_index(results, out)
    passed = sum(r.result == "passed" for r in results)
    console.print(table)
    summary = f"{passed} of {len(jobs)} notebooks passed. Results: {index}"
    console.print(escape(summary), soft_wrap=True)
    if interrupted:
        raise typer.Exit(130)
    raise typer.Exit(passed < len(jobs))


def main() -> None:
    """Entry point: errors of our own are a message and exit code 2, not a traceback."""
    try:
        app()
    except XpuqError as error:
        message = f"[red]xpuq:[/red] {escape(str(error))}"
        Console(stderr=True).print(message, soft_wrap=True, highlight=False)
        sys.exit(2)
