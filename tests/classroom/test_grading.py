import nbformat
import pytest
import yaml
from conftest import write_lesson

from xpuqlib.classroom.grading import prove
from xpuqlib.errors import ClassroomError
from xpuqlib.machine.environment import current_track

pytestmark = pytest.mark.slow

nbgrader = pytest.mark.skipif(
    current_track().name != "current", reason="courses are graded on the current track"
)


def keep(lesson, answers):
    folder = lesson.parent / "wrong_answers"
    folder.mkdir(exist_ok=True)
    (folder / f"{lesson.stem}.yml").write_text(yaml.safe_dump(answers))


WRONG = [
    {"answer": "steps = 256", "hint": "255 steps"},
    {"answer": "steps = 1", "hint": "Count"},
]


@nbgrader
def test_a_right_course_is_proved(tmp_path):
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    keep(lesson, {"steps": WRONG})
    table = prove([lesson])
    assert table["ok"].all(), table.to_string()
    found = dict(
        zip(table["student"], zip(table["points"], table["due"], strict=True), strict=True)
    )
    assert found == {
        "untouched": (0, 0),
        "solutions": (2, 2),
        "wrong": (0, 0),
    }
    assert "Not attempted yet" in table["said"][0]


@nbgrader
def test_what_does_not_grade_is_seen(tmp_path):
    # The check takes 256 for right, and an open exercise stops the cell after it.
    lesson = write_lesson(tmp_path / "01_a.ipynb", expected=256)
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("steps + 1"))
    nbformat.write(notebook, lesson)
    keep(lesson, {"steps": WRONG[:1]})
    table = prove([lesson]).set_index(["student", "exercise"])
    assert not table["ok"]["solutions", "steps"]  # no points for the solution
    assert not table["ok"]["wrong", "steps"]  # points for a wrong answer
    assert table["ok"]["untouched", "steps"]
    assert not table["ok"]["untouched", "–"]
    assert "TypeError" in table["said"]["untouched", "–"]


@pytest.mark.parametrize("kept", [{}, {"other": WRONG}, {"steps": []}])
def test_an_exercise_without_wrong_answers_is_refused(tmp_path, kept, monkeypatch):
    monkeypatch.setattr("xpuqlib.classroom.grading.find_spec", lambda name: True)
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    keep(lesson, kept)
    with pytest.raises(ClassroomError, match="steps, with a wrong answer each"):
        prove([lesson])


def test_without_nbgrader_the_fix_is_named(monkeypatch):
    monkeypatch.setattr("xpuqlib.classroom.grading.find_spec", lambda name: None)
    with pytest.raises(ClassroomError, match=r"pip install .*classroom"):
        prove([])
