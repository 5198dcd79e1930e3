"""Every lesson through nbgrader: untouched, solved, and with each kept wrong answer."""

from pathlib import Path

import pytest

from xpuqlib.classroom.course import read_exercises
from xpuqlib.classroom.grading import prove
from xpuqlib.machine.environment import current_track

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_two_to_four_exercises_from_recall_to_design(lesson):
    exercises = read_exercises(lesson)
    assert 2 <= len(exercises) <= 4
    assert "(design, " in exercises[-1].title
    for number, exercise in enumerate(exercises, start=1):
        assert exercise.title.startswith(f"Exercise {int(lesson.name[:2])}.{number}: ")
        points = f"{exercise.points} point{'s' * (exercise.points > 1)}"
        assert exercise.title.endswith(f", {points})")


@pytest.mark.skipif(
    current_track().name != "current", reason="courses are graded on the current track"
)
def test_every_lesson_grades():
    table = prove(LESSONS, jobs=2)
    assert table["ok"].all(), table[~table["ok"]].to_string()
    assert set(table["lesson"]) == {lesson.stem for lesson in LESSONS}
    assert {"untouched", "solutions", "wrong-1"} <= set(table["student"])
