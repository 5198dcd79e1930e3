"""The arguments of ``xpuq``'s commands; each default stands in its command."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from xpuqlib.names import DEVICES, MODELS

String, Strings = str | None, list[str] | None

AsJson = Annotated[bool, Option("--json", help="Print the checks as JSON.")]
Names = Annotated[Strings, Argument(help="Paths, or starts of names such as 03; all if none.")]
Name = Annotated[str, Argument(help="A path, or the start of a lesson's name.")]
OneName = Annotated[String, Argument(help="A path, or a name's start; all parameters if none.")]
Value = Annotated[Strings, Option("-p", metavar="NAME=VALUE", help="A FILE.py:NAME is executed.")]
Values = Annotated[
    Strings,
    Option("-p", metavar="NAME=VALUE,…", help="All are combined. A FILE.py:NAME is executed."),
]
Device = Annotated[String, Option(metavar="|".join(DEVICES), help="Short for -p device=….")]
Out = Annotated[Path | None, Option(help="Folder for results (default: runs/DATE-TIME).")]
Language = Annotated[
    String, Option(metavar="zh", help="Of the lessons' text; code and what it shows stay English.")
]
GridFile = Annotated[Path | None, Option(help="YAML file with parameters, exclude, include.")]
Jobs = Annotated[int, Option(min=1, help="Kernels at a time; several disturb each other's times.")]
Scheduler = Annotated[String, Option(metavar="tcp://HOST:PORT", help="A Dask scheduler.")]
Resources = Annotated[String, Option(metavar="NAME=NUMBER,…", help="What a run takes: XPU=1.")]
Resume = Annotated[bool, Option("--resume", help="Keep what passed in --out, execute the rest.")]
Timeout = Annotated[float | None, Option(metavar="SECONDS", help="End a run after this time.")]
Folder = Annotated[Path, Argument(help="Folder of `xpuq run` or `xpuq sweep`.")]
Baseline = Annotated[String, Option(metavar="NAME=VALUE,…", help="Differences are to this run.")]
Before = Annotated[
    Path, Argument(help="Folder of runs, or a kept .jsonl: one machine, one version.")
]
After = Annotated[Path, Argument(help="The same runs elsewhere, or of other versions.")]
Slower = Annotated[float, Option(help="Fraction by which a latency may grow.")]
Top1 = Annotated[float, Option(help="By how much an accuracy may fall.")]
CourseFolder = Annotated[Path | None, Argument(help="New folder for the course.")]
Lessons = Annotated[String, Option(metavar="NAME,…", help="Starts of names: 01,03; all if none.")]
Proof = Annotated[bool, Option("--check", help="Prove through nbgrader that the lessons grade.")]
Weights = Annotated[str, Option(metavar="digits|imagenet", help="imagenet: these, too.")]
Models = Annotated[Strings, Option("--model", metavar="|".join(MODELS), help="All if none.")]
Whole = Annotated[bool, Option("--check", help="Only compare the caches with the manifest.")]
TorchvisionNames = Annotated[Strings, Argument(help="Classification models of torchvision.")]
Programs = Annotated[Path, Option(help="Folder for the programs, a file for each model.")]
ToCheck = Annotated[Path | None, Option("--check", help="Compare a file with the GPU's program.")]
Markdown = Annotated[bool, Option("--markdown", help="As in the book.")]
LessonRun = Annotated[Path, Argument(help="Folder 09_your_own_model of a run of lesson 09.")]
NewFolder = Annotated[Path, Option(help="New folder for the package and all that it needs.")]
PackageDevice = Annotated[str, Option(metavar="cpu|xpu", help="What the package is for.")]
