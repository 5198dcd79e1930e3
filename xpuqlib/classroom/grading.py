"""Proof that a course grades: nothing for open or wrong answers, all points for the solutions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import nbformat
import pandas
import yaml
from tqdm import tqdm

from xpuqlib.classroom.course import BEGIN, END, make_course, read_exercises
from xpuqlib.errors import ClassroomError

__all__ = ["answered", "grade_name", "prove", "wrong_answers"]

Answers = dict[str, list[dict[str, str]]]  # of each exercise: wrong answers with their hints
_REGION = re.compile(rf"^([ \t]*){BEGIN}.*?{END}[^\n]*", re.DOTALL | re.MULTILINE)


def prove(lessons: list[Path], jobs: int = 1, catalogues: Path | None = None) -> pandas.DataFrame:
    """Let nbgrader make the release and grade invented students, and compare with what is due.

    The students: one who changed nothing, one who wrote the solutions, and one who gave to each
    exercise the first of the wrong answers that are kept for it.

    Parameters
    ----------
    lessons : list of pathlib.Path
        Notebooks; the wrong answers stand in ``wrong_answers/`` beside them.
    jobs : int
        Lessons graded at the same time.
    catalogues : pathlib.Path, optional
        Those of a language, to grade the course in it.

    Returns
    -------
    pandas.DataFrame
        One row for each exercise and student: ``lesson``, ``exercise``, ``student``, ``points``,
        ``due``, ``said`` (what the check showed), ``ok``. A cell that fails is a row, too.

    Raises
    ------
    ClassroomError
        If nbgrader is missing or cannot grade, or an exercise has no wrong answer.
    """
    if find_spec("nbgrader") is None:
        raise ClassroomError("nbgrader is not installed.", 'pip install -e ".[classroom]"')
    work = [(lesson, wrong_answers(lesson), jobs, catalogues) for lesson in lessons]
    # nbgrader looks for alembic on the path, where a venv that is not activated has none.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with mock.patch.dict(os.environ, PATH=path), ThreadPoolExecutor(jobs) as executor:
        running = [executor.submit(_prove_lesson, *arguments) for arguments in work]
        ended = tqdm(as_completed(running), total=len(lessons), desc="grading", unit="lesson")
        for future in ended:
            future.result()
    columns = ["lesson", "exercise", "student", "points", "due", "said", "ok"]
    return pandas.DataFrame([row for f in running for row in f.result()], columns=columns)


def wrong_answers(lesson: Path) -> Answers:
    """Read the wrong answers that are kept for the exercises of a lesson, with their hints.

    Raises
    ------
    ClassroomError
        If an exercise has none.
    """
    path = lesson.parent / "wrong_answers" / f"{lesson.stem}.yml"
    kept = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [exercise.name for exercise in read_exercises(lesson)]
    if set(kept) != set(names) or not all(kept.values()):
        raise ClassroomError(
            f"{path} is not about the exercises {', '.join(names)}, with a wrong answer each.",
            "Keep at least one wrong answer, with its hint, for each exercise of the lesson.",
        )
    return kept


def _prove_lesson(lesson: Path, wrong: Answers, jobs: int, catalogues: Path | None) -> list[tuple]:
    with TemporaryDirectory() as temporary:
        course = make_course(Path(temporary) / "course", [lesson], catalogues)
        _nbgrader(course, jobs, "generate_assignment", lesson.stem)
        source, release = (_read(course / kind, lesson) for kind in ("source", "release"))
        first = {name: kept[0] for name, kept in wrong.items()}
        students = {"untouched": (release, {}), "solutions": (source, {})}
        students["wrong"] = answered(source, release, first), first
        for student, (notebook, _) in students.items():
            target = course / "submitted" / student / lesson.stem / lesson.name
            target.parent.mkdir(parents=True)
            nbformat.write(notebook, target)
        _nbgrader(course, jobs, "autograde", lesson.stem, "--create")
        return [
            (lesson.stem, *row)
            for student, (_, answers) in students.items()
            for row in _graded(course, lesson, student, answers)
        ]


def _read(folder: Path, lesson: Path) -> nbformat.NotebookNode:
    return nbformat.read(folder / lesson.stem / lesson.name, as_version=4)


def grade_name(cell: nbformat.NotebookNode) -> str | None:
    """Name that nbgrader knows a cell by; None for other cells."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def answered(
    source: nbformat.NotebookNode,
    release: nbformat.NotebookNode,
    answers: dict[str, dict[str, str]],
) -> nbformat.NotebookNode:
    """Give the release with other text where the source has its solutions."""

    def replace(region: re.Match) -> str:
        return textwrap.indent(textwrap.dedent(text).rstrip(), region[1])

    copy = nbformat.from_dict(release)
    for ours, theirs in zip(source.cells, copy.cells, strict=True):
        if grade_name(ours) in answers:
            text = answers[grade_name(ours)]["answer"]
            theirs.source = _REGION.sub(replace, ours.source)
    return copy


def _nbgrader(course: Path, jobs: int, *arguments: str) -> None:
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    child = subprocess.run(
        command, cwd=course, capture_output=True, text=True, env=os.environ | threads
    )
    if child.returncode:
        cause = f"nbgrader {' '.join(arguments)} failed: {(child.stderr + child.stdout)[-2000:]}"
        raise ClassroomError(cause, "Execute the lesson alone first: xpuq run.")


def _graded(
    course: Path, lesson: Path, student: str, answers: dict[str, dict[str, str]]
) -> Iterator[tuple]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        found = gradebook.find_submission_notebook(lesson.stem, lesson.stem, student)
        points = {grade.name: grade.auto_score for grade in found.grades}
    outputs = {}
    for cell in _read(course / "autograded" / student, lesson).cells:
        outputs[grade_name(cell)] = cell.get("outputs", [])
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield "–", student, 0, 0, f"A cell fails: {output.ename}: {output.evalue}", False
    for exercise in read_exercises(lesson):
        due, hint = 0, answers.get(exercise.name, {"hint": "Not attempted yet"})["hint"]
        if student == "solutions":
            due, hint = exercise.points, "Right."
        shown = [output.get("data", {}).get("text/plain", "") for output in outputs[exercise.check]]
        said, earned = max(shown, key=len, default=""), points[exercise.check]
        yield exercise.name, student, earned, due, said, earned == due and hint in said
