"""What of the book is made of code and lessons, each time that it is built.

Lessons go to ``lessons/``, the rooms to ``api/``, and parts of pages to ``_made/``, where the pages
that are kept include them. A file is written only when it changed: the next build is a short one.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import nbformat
import typer
from rooms import room_page
from typer.cli import get_docs_for_click

import xpuqlib
from xpuqlib.classroom.course import course_page, read_exercises, read_guide
from xpuqlib.classroom.reading import reader_copy
from xpuqlib.cli import app, parameters

ROOMS = ("machine", "material", "recipe", "proof", "show", "runner", "classroom")
PACKAGE = Path(xpuqlib.__file__).parent
# Pages that are left out where what they show is not there.
OPTIONAL = {"checklist": "CHECKLIST.md", "map": "docs/map/index.html"}


def make_pages(docs: Path) -> None:
    """Write all that is made; `docs` is the folder of ``conf.py``, beside ``notebooks``."""
    lessons = sorted((docs.parent / "notebooks").glob("*.ipynb"))
    exercises = {lesson: read_exercises(lesson) for lesson in lessons}
    command = typer.main.get_command(app)
    documented = get_docs_for_click(obj=command, ctx=typer.Context(command), name="xpuq")
    made = {
        "_made/instructors.md": course_page("INSTRUCTOR.md", exercises),
        "_made/lessons.md": "\n".join(lesson_rows(lessons)),
        "_made/toctree.md": toctree([f"lessons/{x.stem}" for x in lessons]),
        "_made/parameters.md": parameters_table(),
        "_made/commands.md": documented.partition("\n## ")[2].join(("## ", "")),
        "_made/optional.md": toctree([x for x in OPTIONAL if x not in left_out(docs)]),
    }
    made |= {f"lessons/{x.name}": nbformat.writes(reader_copy(x)) for x in lessons}
    made |= {f"api/{room}.md": room_page(PACKAGE / room) for room in ROOMS}
    for name, text in made.items():
        write_changed(docs / name, text)
    for path in (*(docs / "lessons").iterdir(), *(docs / "api").iterdir()):
        if path.relative_to(docs).as_posix() not in made:
            path.unlink()  # of a lesson that has another name now


def left_out(docs: Path) -> list[str]:
    """Name the optional pages whose source is missing."""
    return [page for page, source in OPTIONAL.items() if not (docs.parent / source).exists()]


def write_changed(path: Path, text: str) -> None:
    """Write a file, if it does not hold this text already."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def lesson_rows(lessons: list[Path]) -> Iterator[str]:
    """Give the table of the lessons: minutes; Sphinx puts in the titles, translated ones, too."""
    guide = read_guide()
    yield from ("| lesson | minutes, with exercises |", "|---|---|")
    for lesson in lessons:
        yield f"| [](lessons/{lesson.name}) | {guide[lesson.stem]['minutes']} |"


def toctree(names: list[str]) -> str:
    """Give a hidden table of contents, or nothing for no pages."""
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"]) if names else ""


def parameters_table() -> str:
    """Give what `xpuq parameters --markdown` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        parameters(markdown=True)
    return printed.getvalue()
