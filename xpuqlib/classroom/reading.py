"""A lesson for those who read it: solutions, checks and long imports wait behind a fold."""

from __future__ import annotations

import ast
import copy
import json
import re
from html import escape
from pathlib import Path

import nbformat

from xpuqlib.classroom.course import BEGIN, END, STUB, read_exercises
from xpuqlib.proof.record import MIME_TYPE
from xpuqlib.show.states import STATES_MIME_TYPE

__all__ = ["reader_copy"]

_REGION = re.compile(rf"^([ \t]*){BEGIN}\n(.*?){END}[^\n]*", re.DOTALL | re.MULTILINE)
_MARKS = re.compile(rf"^[ \t]*({BEGIN}|{END})[^\n]*\n?", re.MULTILINE)


def reader_copy(lesson: Path) -> nbformat.NotebookNode:
    """Give a lesson with its outputs, as myst-nb shows it in a book.

    An exercise has the student's cell, and behind folds the hint of its check, the solution, and
    the check itself. The text cells stay as they are, so that their translations fit.

    Parameters
    ----------
    lesson : pathlib.Path
        A notebook with exercises, executed.

    Raises
    ------
    ClassroomError
        If it is no notebook, has no exercises, or one of them lacks a part.
    """
    names = {exercise.name for exercise in read_exercises(lesson)}
    notebook = nbformat.read(lesson, as_version=4)
    notebook.metadata.pop("widgets", None)
    cells = []
    for cell in notebook.cells:
        grade = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        if grade in names:
            cells += _answer(cell)
            continue
        if grade.removesuffix("-check") in names:
            cells.insert(-1, _hint(cell.source))  # before the solution
            _fold(cell, "hide-cell", "the check, with what it says of the usual mistakes")
        elif cell.cell_type == "code" and "= Claims()" in cell.source:
            _fold(cell, "hide-input", "the imports")
        elif cell.cell_type == "code" and "RunRecord(" in cell.source:
            _fold(cell, "hide-input", "what is recorded")
        cells.append(cell)
    notebook.cells = [_described(cell) for cell in cells]
    return notebook


def _answer(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Give the student's cell, and the solution with its outputs."""
    student = copy.deepcopy(cell)
    student.source = _REGION.sub(rf"\1{STUB}", cell.source)
    student.outputs, student.id = [], f"{cell.id}-open"
    student.execution_count = None
    cell.source = _MARKS.sub("", cell.source).strip("\n")
    _fold(cell, "hide-cell", "a solution")
    return [student, cell]


def _hint(check: str) -> nbformat.NotebookNode:
    """Give the hint of a check as text behind a fold; of an f-string what does not vary."""
    calls = [node for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Call)]
    [hint] = [
        keyword.value
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "hint" and ast.unparse(call.func) == "check"
    ]
    text = "".join(node.value for node in ast.walk(hint) if isinstance(node, ast.Constant))
    return nbformat.v4.new_markdown_cell(f":::{{dropdown}} Hint\n{text.strip()}\n:::")


def _fold(cell: nbformat.NotebookNode, tag: str, what: str) -> None:
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), tag]
    prompts = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
    cell.metadata["mystnb"] = cell.metadata.get("mystnb", {}) | prompts


def _described(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave of each output what a book shows, and say of a figure what it shows."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        data.pop(MIME_TYPE, None)
        if STATES_MIME_TYPE in data:
            data["text/html"] = _explorer(**data.pop(STATES_MIME_TYPE))
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:
            cell.metadata["mystnb"] = cell.metadata.get("mystnb", {}) | {"image": {"alt": alt}}
    return cell


def _explorer(label: str, start: int, states: list[dict[str, str]]) -> str:
    """Give a slider over the figures that were made; ``explorer.js`` moves it."""
    state, last = states[start], len(states) - 1
    kept = json.dumps(states).replace("</", r"<\/")
    return f"""<div class="explorer">
<label hidden>{escape(label)}
<input type="range" max="{last}" value="{start}"><output></output></label>
<img alt="{escape(state["text"])}" src="data:image/webp;base64,{state["image"]}">
<p aria-live="polite">{escape(state["text"])}</p>
<script type="application/json">{kept}</script>
</div>"""
