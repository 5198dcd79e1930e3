"""An nbgrader course from the lessons: sources, settings, a guide for instructor and students."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from string import Template

import nbformat
import yaml

from xpuqlib.errors import ClassroomError, explained
from xpuqlib.proof.record import read_record
from xpuqlib.runner.execution import Job
from xpuqlib.runner.language import read_catalogue, translate

__all__ = ["Exercise", "course_page", "make_course", "read_exercises", "read_guide"]

HERE = Path(__file__).parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "pass  # YOUR ANSWER HERE"  # as in nbgrader_config.py


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson: nbgrader's name of its answer cell, its title, its points."""

    name: str
    title: str
    points: int

    @property
    def check(self) -> str:
        """Name of the cell that grades it."""
        return f"{self.name}-check"


def read_exercises(lesson: Path) -> list[Exercise]:
    """Read the exercises of a lesson: a title, an answer cell with a solution, a check.

    Raises
    ------
    ClassroomError
        If it is no notebook, has no exercises, or one of them lacks a part.
    """
    fix = "Name lessons, such as --lessons 01,03."
    with explained((ValueError, AttributeError), f"{lesson} is no notebook", fix, ClassroomError):
        cells, exercises = nbformat.read(lesson, as_version=4).cells, []
    for before, cell, after in zip(cells, cells[1:], cells[2:], strict=False):
        answer, graded = (c.metadata.get("nbgrader", {}) for c in (cell, after))
        if not answer.get("solution"):
            continue
        name = answer.get("grade_id", "")
        titles = [line for line in before.source.splitlines() if line.startswith("### Exercise")]
        whole = BEGIN in cell.source and END in cell.source
        if not titles or not whole or graded.get("grade_id") != f"{name}-check":
            raise ClassroomError(
                f"Exercise {name!r} of {lesson.name} lacks its title, its solution or its check.",
                f"Write '### Exercise …', an answer cell with {BEGIN} and {END}, and a cell "
                f"'{name}-check' that grades it, one after the other.",
            )
        exercises.append(Exercise(name, titles[-1].removeprefix("### "), int(graded["points"])))
    if not exercises:
        raise ClassroomError(f"{lesson.name} has no exercises.", "Leave it out of --lessons.")
    return exercises


def make_course(folder: Path, lessons: list[Path], catalogues: Path | None = None) -> Path:
    """Make a course for ``nbgrader generate_assignment``; it appears whole or not at all.

    Parameters
    ----------
    folder : pathlib.Path
        New, or empty.
    lessons : list of pathlib.Path
        Each becomes an assignment of its own name.
    catalogues : pathlib.Path, optional
        Those of a language (`find_language`), for the prose of lessons and glossary.

    Raises
    ------
    ClassroomError
        If the folder holds something, cannot be written, or a lesson has no exercises.
    """
    found = {lesson: read_exercises(lesson) for lesson in lessons}
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ClassroomError(f"{folder} is not empty.", "Choose a new folder for the course.")
    parent = folder.absolute().parent
    with explained(OSError, f"{folder} cannot be written", "Choose another.", ClassroomError):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".xpuq") as made:
            _write(Path(made) / "course", found, catalogues)
            if folder.is_dir():
                folder.rmdir()
            (Path(made) / "course").rename(folder)
    return folder


def _write(course: Path, found: dict[Path, list[Exercise]], catalogues: Path | None) -> None:
    for lesson in found:
        target = course / "source" / lesson.stem / lesson.name
        target.parent.mkdir(parents=True)
        without_outputs = Job(lesson, {}, catalogues).task().notebook
        for other in found:  # in a course each lesson has a folder of its own
            link = f"]({other.name})"
            without_outputs = without_outputs.replace(link, f"](../{other.stem}/{other.name})")
        target.write_text(f"{without_outputs}\n", encoding="utf-8")
        if (glossary := lesson.absolute().parents[1] / "GLOSSARY.md").exists():
            text = glossary.read_text(encoding="utf-8")
            text = _translated_glossary(text, catalogues) if catalogues else text
            (course / "GLOSSARY.md").write_text(text, encoding="utf-8")
        if (checklist := lesson.absolute().parents[1] / "CHECKLIST.md").exists():
            shutil.copy(checklist, course)
    shutil.copy(HERE / "nbgrader_config.py", course)
    for name in ("INSTRUCTOR.md", "README.md"):
        (course / name).write_text(course_page(name, found), encoding="utf-8")


def read_guide() -> dict[str, dict]:
    """Read what ``guide.yml`` says: of each lesson, of two agendas, and what was measured."""
    return yaml.safe_load((HERE / "guide.yml").read_text(encoding="utf-8"))


def course_page(name: str, found: dict[Path, list[Exercise]]) -> str:
    """Give the Markdown of a page of a course.

    Parameters
    ----------
    name : str
        ``INSTRUCTOR.md`` or ``README.md``, the page for students.
    found : dict of pathlib.Path to list of Exercise
        The lessons of the course.
    """
    guide = read_guide()
    sections = "\n".join(_section(lesson, found[lesson], guide) for lesson in found)
    indented = "\n   "  # a block of code in a list
    names = indented.join(f"nbgrader generate_assignment {lesson.stem}" for lesson in found)
    titles = "\n".join(f"- `{lesson.stem}`" for lesson in found)
    agendas = {key: _agenda(parts, guide) for key, parts in guide["agendas"].items()}
    text = Template((HERE / name).read_text(encoding="utf-8"))
    values = guide["measured"] | agendas
    return text.substitute(values, commands=names, lessons=titles, sections=sections)


def _translated_glossary(text: str, catalogues: Path) -> str:
    """Translate the terms, and keep the places that links in lessons lead to."""

    def with_place(heading: re.Match) -> str:
        place = re.sub("[^a-z0-9 -]", "", heading[1].lower()).replace(" ", "-")
        return f'<a id="{place}"></a>\n\n{heading[0]}'

    text = re.sub("^## (.+)$", with_place, text, flags=re.MULTILINE)
    return translate(text, read_catalogue(catalogues, "glossary"))


def _agenda(parts: list[dict], guide: dict) -> str:
    """Write a table of a day that begins at nine; a lesson takes the minutes of its own entry."""
    lines, clock = ["| from | what | minutes |", "|---|---|---|"], datetime(2000, 1, 1, hour=9)
    for part in parts:
        lesson = part.get("lesson")
        minutes = guide[lesson]["minutes"] if lesson else part["minutes"]
        lines.append(f"| {clock:%H:%M} | {part.get('what') or f'`{lesson}`'} | {minutes} |")
        clock += timedelta(minutes=minutes)
    return "\n".join([*lines, f"| {clock:%H:%M} | end | |"])


def _section(lesson: Path, exercises: list[Exercise], guide: dict) -> str:
    known = guide.get(lesson.stem, {"minutes": "?", "points": [], "questions": {}})
    record = read_record(lesson)
    running = f"{record.seconds:.0f} s on {record.device_name}" if record else "not yet measured"
    lines = [f"### {lesson.stem}", ""]
    lines += [f"About {known['minutes']} minutes with its exercises; one run: {running}.", ""]
    lines += [f"- {point}" for point in known["points"]]
    lines += ["", "| exercise | points |", "|---|---|"]
    lines += [f"| {exercise.title} | {exercise.points} |" for exercise in exercises]
    lines += [f"\n**{question}** {answer}" for question, answer in known["questions"].items()]
    return "\n".join([*lines, ""])
