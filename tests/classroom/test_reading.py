"""The reader's version of a lesson: what is folded, and that it comes of the marked source."""

import json
import re
from html import unescape

import nbformat
import pytest
from trial import LESSONS, each_lesson, student_copy

from xpuqlib.classroom.course import read_exercises
from xpuqlib.classroom.reading import reader_copy


def folded(cell):
    return {"hide-cell", "hide-input"} & {*cell.metadata.get("tags", [])}


@each_lesson
def test_a_reader_sees_the_students_cells_and_may_open_hint_solution_and_check(lesson):
    cells = reader_copy(lesson).cells
    nbformat.validate(nbformat.from_dict(nbformat.v4.new_notebook(cells=cells)))
    student = {
        c.metadata.nbgrader.grade_id: c.source
        for c in student_copy(lesson).cells
        if "nbgrader" in c.metadata
    }
    exercises = read_exercises(lesson)
    at = [n for n, c in enumerate(cells) if c.source.startswith(":::{dropdown} Hint\n")]
    assert len(at) == len(exercises)
    for exercise, n in zip(exercises, at, strict=True):
        shown, hint, solution, check = cells[n - 1 : n + 3]
        assert shown.source == student[exercise.name]
        assert not folded(shown)
        assert not shown.outputs
        assert len(hint.source) > len(":::{dropdown} Hint\n\n:::") + 20
        assert folded(solution)
        assert solution.source != shown.source
        assert folded(check)
        assert check.source == student[exercise.check]
    assert not any("SOLUTION" in cell.source for cell in cells)


@each_lesson
def test_texts_stay_as_they_are_so_that_translations_fit(lesson):
    given = [c.source for c in nbformat.read(lesson, 4).cells if c.cell_type == "markdown"]
    read = [c.source for c in reader_copy(lesson).cells if c.cell_type == "markdown"]
    assert [text for text in read if not text.startswith(":::{dropdown}")] == given


@each_lesson
def test_every_committed_figure_says_what_it_shows(lesson):
    cells = [cell for cell in reader_copy(lesson).cells if cell.cell_type == "code"]
    shown = [(c, o) for c in cells for o in c.outputs if "image/png" in o.get("data", {})]
    assert shown
    for cell, output in shown:
        alt = output.metadata["image/png"]["alt"]
        assert len(alt) > 20
        assert not alt.startswith("<")
        assert cell.metadata.mystnb.image.alt == alt  # the book's


@pytest.mark.parametrize("number", ["03", "09"])
def test_a_slider_moves_over_the_figures_that_were_made(number):
    [lesson] = [path for path in LESSONS if path.name.startswith(number)]
    outputs = [o for c in reader_copy(lesson).cells if c.cell_type == "code" for o in c.outputs]
    pages = [o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    explorers = [page for page in pages if 'class="explorer"' in page]
    assert explorers
    for page in explorers:
        states = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
        last, start = map(int, re.search(r'max="(\d+)" value="(\d+)"', page).groups())
        assert last == len(states) - 1
        assert unescape(re.search(r'<img alt="([^"]*)"', page)[1]) == states[start]["text"]
        assert len({state["text"] for state in states}) == len(states)
