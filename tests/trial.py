"""One execution of each lesson with its defaults, which all checks of the lessons read.

What is executed is the student's copy, with open exercises. Behind each cell that makes a claim
its kernel also runs the opposite of that claim, and at the end each exercise again: with the
solution, and with each wrong answer that is kept for it.
"""

import ast
from pathlib import Path

import nbformat
import pytest
from nbgrader.preprocessors import ClearSolutions
from typer.testing import CliRunner

from xpuqlib.classroom.course import read_exercises
from xpuqlib.classroom.grading import answered, grade_name, wrong_answers
from xpuqlib.cli import app
from xpuqlib.proof.record import read_record

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)

TRIAL = "trial"  # key in the metadata of a cell that only a trial has: what it tries
OPPOSITE = "opposite"
# Parameters for a fast run: nothing is trained or downloaded.
SMALL = {"weights": "random", "data": "synthetic", "image_size": 64, "batch_size": 4}


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and TRIAL not in cell.metadata]


def check_noise(path):
    """Nothing but our own warnings, such as that of a CPU without VNNI."""
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.get("name") != "stderr" or "XpuqWarning" in output.text, output.text


def student_copy(lesson):
    """Give the lesson as nbgrader hands it out."""
    release = nbformat.read(lesson, as_version=4)
    clear = ClearSolutions(code_stub={"python": "pass  # YOUR ANSWER HERE"})
    return clear.preprocess(release, {})[0]


def claims_of(source):
    """Give the arguments of each `claims.add(…)` in a cell; it must stand at the top level."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "claims.add"
    ]
    top = [line.value for line in ast.parse(source).body if isinstance(line, ast.Expr)]
    assert {ast.unparse(call) for call in calls} <= {ast.unparse(value) for value in top}
    return [call.args for call in calls]


ORDER = {ast.Lt: ast.Lt, ast.LtE: ast.Lt, ast.Gt: ast.Gt, ast.GtE: ast.Gt}
OTHERS = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}


class Swap(ast.NodeTransformer):
    """Let the two sides of every comparison change places; of an equality make the opposite."""

    def visit_Compare(self, node):
        self.generic_visit(node)
        kinds = [type(op) for op in node.ops]
        if all(kind in ORDER for kind in kinds):
            left, *others = reversed([node.left, *node.comparators])
            return ast.Compare(left, [ORDER[kind]() for kind in reversed(kinds)], others)
        return ast.Compare(node.left, [OTHERS[kind]() for kind in kinds], node.comparators)


def opposite(expression):
    """Source of a claim's comparison as it would be for the opposite result."""
    return ast.unparse(ast.fix_missing_locations(Swap().visit(ast.parse(expression, mode="eval"))))


def with_opposites(cells):
    for cell in cells:
        yield cell
        made = claims_of(cell.source) if cell.cell_type == "code" else []
        if made:
            pairs = [f"({ast.unparse(a)}, bool({opposite(ast.unparse(b))}))" for a, b, _ in made]
            said = {TRIAL: [OPPOSITE, ""]}
            yield nbformat.v4.new_code_cell(f"[{', '.join(pairs)}]", metadata=said)


def write_trial(lesson, folder):
    """Write the student's copy with opposite claims, and the answers of invented students."""
    source, trial = nbformat.read(lesson, as_version=4), student_copy(lesson)
    trial.cells = list(with_opposites(trial.cells))
    by_name = {grade_name(cell): cell for cell in source.cells}
    wrong = wrong_answers(lesson)
    for exercise in read_exercises(lesson):
        students = {"solution": by_name[exercise.name].source}
        for number, kept in enumerate(wrong[exercise.name], start=1):
            text = answered(source, student_copy(lesson), {exercise.name: kept})
            [cell] = [cell for cell in text.cells if grade_name(cell) == exercise.name]
            students[f"wrong-{number}"] = cell.source
        for student, answer in students.items():
            for text in (answer, by_name[exercise.check].source):
                said = {TRIAL: [student, exercise.name]}
                trial.cells.append(nbformat.v4.new_code_cell(text, metadata=said))
    path = folder / lesson.name
    nbformat.write(trial, path)
    return path


def xpuq_run(out, *arguments):
    """Call `xpuq run` in this process, which need not import what it calls once more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("COLUMNS", "200")
        result = CliRunner().invoke(app, ["run", *map(str, arguments), "--out", str(out)])
    assert result.exit_code == 0, (result.output, result.exception)


def record_of(path):
    record = read_record(path)
    assert record is not None, f"{path} has no run record"
    return record


class Trials:
    """Execute each lesson when it is first asked for; a failure is remembered, too."""

    def __init__(self, folder):
        self.out, self.folder, self.failed = folder / "out", folder / "trials", {}
        self.folder.mkdir()

    def __call__(self, lesson):
        executed = self.out / lesson.name
        if lesson in self.failed:
            pytest.fail(self.failed[lesson])
        if not executed.exists():
            try:
                xpuq_run(self.out, write_trial(lesson, self.folder))
            except AssertionError as error:
                self.failed[lesson] = str(error)
                raise
        return executed
