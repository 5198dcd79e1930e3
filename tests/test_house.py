"""The house: a folder is a room, imports go one way, no module is long, rooms give their names."""

import ast
import importlib
import itertools
from pathlib import Path

import nbformat
import pytest
from conftest import group_of

PACKAGE = Path(__file__).parent.parent / "xpuqlib"
# A module imports from its own room and from those before it, never from one after it.
ORDER = [
    "errors",
    "names",
    "arguments",
    "machine",
    "material",
    "recipe",
    "proof",
    "show",
    "runner",
    "classroom",
    "cli",
]
ROOMS = [name for name in ORDER if (PACKAGE / name).is_dir()]
MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def imported(path: Path) -> set[str]:
    """Names below xpuqlib that a module imports, those inside of functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in found]
    return {names[1] for names in parts if names[0] == "xpuqlib" and names[1:]}


def test_every_module_has_its_place():
    top = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert top == {*ORDER, "__init__", "__main__"}


@each_module
def test_imports_go_one_way(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = ORDER if place.startswith("__") else ORDER[: ORDER.index(place) + 1]
    assert imported(path) & {*ORDER} <= {*allowed}


@pytest.mark.parametrize(
    "path", [*MODULES, *Path(__file__).parent.rglob("*.py")], ids=lambda path: path.name
)
def test_no_module_is_over_300_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_is_for_and_gives_its_names(name):
    room = importlib.import_module(f"xpuqlib.{name}")
    assert room.__doc__.count(".") == 1, "one sentence"
    public = set()
    paths = set((PACKAGE / name).glob("[!_]*.py")) - {PACKAGE / "classroom/nbgrader_config.py"}
    for path in paths:
        module = importlib.import_module(f"xpuqlib.{name}.{path.stem}")
        public |= {f"{attribute} of {path.stem}" for attribute in module.__all__}
        for attribute in module.__all__:
            given = getattr(room, attribute)
            assert given is getattr(module, attribute), f"{attribute} of {path.stem}"
    assert len(public) == len(room.__all__)


LESSONS = sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_imports_from_rooms_in_six_lines_or_fewer(path):
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    found = [
        [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
        for source in sources
    ]
    ours = [[node for node in nodes if node.module.startswith("xpuqlib")] for nodes in found]
    rooms = {node.module for nodes in ours for node in nodes}
    # One line for each room that a lesson needs; only the lesson on many runs needs the runner.
    assert max(map(len, ours)) <= 6
    assert len(rooms) <= 6 + ("xpuqlib.runner" in rooms)
    for node in itertools.chain(*ours):
        assert node.module in {"xpuqlib.errors", *(f"xpuqlib.{room}" for room in ROOMS)}
        room = importlib.import_module(node.module)
        assert all(hasattr(room, alias.name) for alias in node.names)


def test_one_process_takes_all_that_read_one_execution_of_the_lessons(request):
    items = request.session.items
    reads = [item.nodeid for item in items if "trials" in getattr(item, "fixturenames", ())]
    assert {group_of(nodeid) for nodeid in reads} <= {"lessons"}
    assert group_of("tests/test_notebooks.py::test_a[x]") == "lessons"
    assert group_of("tests/test_notebooks.py::test_other_parameters[x]") != "lessons"
    own = "tests/test_own_lesson.py"  # executes lessons itself: it need not wait for the others
    assert group_of(f"{own}::test_a") == own
    notebook = "notebooks/00_check_your_machine.ipynb"
    assert {group_of(f"{notebook}::Cell {n}") for n in range(3)} == {notebook}
