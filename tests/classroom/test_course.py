import ast
import re

import nbformat
import pytest
import yaml
from conftest import write_lesson
from trial import LESSONS

from xpuqlib.classroom import course
from xpuqlib.classroom.course import Exercise, make_course, read_exercises
from xpuqlib.errors import ClassroomError


def test_exercises_have_title_and_points(tmp_path):
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    assert read_exercises(lesson) == [Exercise("steps", "Exercise 1.1: steps", 2)]


def break_cell(lesson, number, **fields):
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells[number].update(fields)
    nbformat.write(notebook, lesson)


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        (0, {"source": "no title"}),
        (1, {"source": "steps = 255"}),
        (2, {"metadata": {}}),
    ],
)
def test_half_an_exercise_is_refused(tmp_path, number, fields):
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    break_cell(lesson, number, **fields)
    with pytest.raises(ClassroomError, match="'steps' of 01_a"):
        make_course(tmp_path / "course", [lesson])
    assert not (tmp_path / "course").exists()


def test_a_lesson_without_exercises_is_refused(tmp_path):
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    break_cell(lesson, 1, metadata={})
    with pytest.raises(ClassroomError, match="no exercises"):
        read_exercises(lesson)


def test_a_course_has_sources_settings_and_guides(tmp_path):
    lesson = write_lesson(tmp_path / "03_pt2e_default_configuration.ipynb")
    folder = make_course(tmp_path / "new" / "course", [lesson])
    made = nbformat.read(folder / "source" / lesson.stem / lesson.name, as_version=4)
    assert made.cells[1].source == nbformat.read(lesson, as_version=4).cells[1].source
    assert not any(cell.get("outputs") for cell in made.cells)
    ast.parse((folder / "nbgrader_config.py").read_text(encoding="utf-8"))
    guide = (folder / "INSTRUCTOR.md").read_text(encoding="utf-8")
    known = yaml.safe_load((course.HERE / "guide.yml").read_text(encoding="utf-8"))[lesson.stem]
    for part in (
        *known["points"],
        *known["questions"],
        "| Exercise 1.1: steps | 2 |",
        f"nbgrader generate_assignment {lesson.stem}",
        "ZE_AFFINITY_MASK",
        "## The evening before",
        "## What each device shows",
    ):
        assert part in guide
    assert "$" not in guide
    assert f"`{lesson.stem}`" in (folder / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == [
        "INSTRUCTOR.md",
        "README.md",
        "nbgrader_config.py",
        "source",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["course"]  # nothing is left over


def test_an_agenda_takes_the_minutes_of_the_lessons():
    parts = [
        {"what": "welcome", "minutes": 50},
        {"lesson": "01_a"},
        {"lesson": "01_a", "what": "b"},
    ]
    assert course._agenda(parts, {"01_a": {"minutes": 25}}).splitlines()[2:] == [
        "| 09:00 | welcome | 50 |",
        "| 09:50 | `01_a` | 25 |",
        "| 10:15 | b | 25 |",
        "| 10:40 | end | |",
    ]


@pytest.mark.parametrize(("name", "latest"), [("half_day", "13:00"), ("full_day", "17:30")])
def test_an_agenda_fits_its_day_and_names_lessons(name, latest):
    guide = yaml.safe_load((course.HERE / "guide.yml").read_text(encoding="utf-8"))
    parts = guide["agendas"][name]
    lessons = [part["lesson"] for part in parts if "lesson" in part]
    assert lessons == sorted(lessons)
    assert set(lessons) <= {path.stem for path in LESSONS}
    end = course._agenda(parts, guide).splitlines()[-1].split()[1]
    assert "12:00" <= end <= latest


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    lesson = write_lesson(tmp_path / "01_a.ipynb")
    (tmp_path / "empty").mkdir()
    make_course(tmp_path / "empty", [lesson])
    with pytest.raises(ClassroomError, match="not empty"):
        make_course(tmp_path / "empty", [lesson])
    with pytest.raises(ClassroomError, match="not empty"):
        make_course(lesson, [lesson])


def test_links_between_lessons_and_to_the_glossary_work_in_a_course(tmp_path):
    lessons = [write_lesson(tmp_path / "notebooks" / f"0{n}_a.ipynb") for n in (1, 2)]
    (tmp_path / "GLOSSARY.md").write_text("# Glossary\n")
    (tmp_path / "CHECKLIST.md").write_text("# Checklist\n")
    said = "### Exercise 1.1: steps [next](02_a.ipynb) [code](../GLOSSARY.md#code)"
    break_cell(lessons[0], 0, source=said)
    folder = make_course(tmp_path / "course", lessons)
    made = folder / "source" / "01_a" / "01_a.ipynb"
    text = nbformat.read(made, as_version=4).cells[0].source
    links = re.findall(r"\]\(([^)#]*)", text)
    assert (made.parent / links[0]).resolve().exists()
    # Copies are handed out beside the course's README, each in the folder of its lesson.
    assert (folder / "01_a" / links[1]).resolve() == folder / "GLOSSARY.md"
    assert (folder / "GLOSSARY.md").exists()
    assert (folder / "CHECKLIST.md").exists()
