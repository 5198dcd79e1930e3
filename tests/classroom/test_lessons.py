"""The exercises of the lessons: their form, and what their checks give to whom."""

import re

import nbformat
import pytest
from conftest import no_torch_in_it
from trial import LESSONS, OPPOSITE, TRIAL, each_lesson, student_copy

from xpuqlib.classroom.course import read_exercises
from xpuqlib.classroom.grading import grade_name, prove, wrong_answers


@each_lesson
def test_a_lesson_has_two_to_four_exercises_from_recall_to_design(lesson):
    exercises = read_exercises(lesson)
    assert 2 <= len(exercises) <= 4
    assert "(design, " in exercises[-1].title
    for number, exercise in enumerate(exercises, start=1):
        assert exercise.title.startswith(f"Exercise {int(lesson.name[:2])}.{number}: ")
        points = f"{exercise.points} point{'s' * (exercise.points > 1)}"
        assert exercise.title.endswith(f", {points})")


def graded(cell):
    """Points and text that a check gave."""
    shown = [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    points = [output for output in cell.outputs if output.output_type == "execute_result"]
    return int(points[-1].data["text/plain"]), max(shown, key=len)


@each_lesson
def test_an_untouched_copy_runs_to_its_end_and_gets_no_point(lesson, trials):
    cells = nbformat.read(trials(lesson), as_version=4).cells
    checks = {exercise.check for exercise in read_exercises(lesson)}
    found = {grade_name(c): graded(c) for c in cells if grade_name(c) in checks}
    assert found.keys() == checks
    for points, said in found.values():
        assert points == 0
        assert "Not attempted yet" in said


@each_lesson
def test_solutions_get_all_points_and_wrong_answers_their_hint(lesson, trials):
    cells = nbformat.read(trials(lesson), as_version=4).cells
    cells = [c for c in cells if c.metadata.get(TRIAL, [OPPOSITE])[0] != OPPOSITE]
    wrong, seen = wrong_answers(lesson), set()
    points = {exercise.name: exercise.points for exercise in read_exercises(lesson)}
    for check in cells[1::2]:  # each answer is followed by its check
        student, name = check.metadata[TRIAL]
        seen.add((student, name))
        due, hint = points[name], "Right."
        if student != "solution":
            due, hint = 0, wrong[name][int(student.removeprefix("wrong-")) - 1].get("hint", "")
        earned, said = graded(check)
        assert earned == due, f"{student} of {name}: {said}"
        assert hint in said, f"{student} of {name}"
    assert {name for student, name in seen if student == "solution"} == set(points)
    assert {name for student, name in seen if student == "wrong-1"} == set(points)


def test_the_student_copy_holds_no_solution():
    solutions = re.compile("BEGIN SOLUTION|END SOLUTION")
    for lesson in LESSONS:
        assert not any(solutions.search(cell.source) for cell in student_copy(lesson).cells)


@pytest.mark.slow
@no_torch_in_it("ipex")
def test_nbgrader_itself_grades_a_lesson():
    """The cheapest one; `xpuq classroom --check` proves all of them in this way."""
    table = prove(LESSONS[:1], jobs=2)
    assert table["ok"].all(), table[~table["ok"]].to_string()
    assert {"untouched", "solutions", "wrong"} == set(table["student"])
