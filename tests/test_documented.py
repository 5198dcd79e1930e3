"""Every make target, and every command in README, CONTRIBUTING and docs, is run or named here.

Commands are run as they stand there, in a folder that looks like the project from outside: its
lessons are a line long, and its benchmarks get --smoke.
"""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import large_on, no_torch_in_it, write_lesson, write_notebook
from typer.testing import CliRunner

from xpuqlib.cli import app
from xpuqlib.runner import sweeps

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = "make|xpuq|pip|python|apt|conda|dask|nbgrader"
PARAMETERS = """\
device: str = "auto"
model: str = "resnet18"
configuration: str = "default"
batch_size: int = 8"""

# What is not run here: the file that proves it, and words of it; or nothing, and why.
ELSEWHERE = {
    "make map": ("tests/test_map.py", '"make.py", "--drafted-only"'),
    'make map ARGS="*': ("tests/test_map.py", '"make.py", "--drafted-only"'),
    "python benchmarks/map/dense.py": ("tests/test_map.py", 'MAP / "dense.py"'),
    "xpuq compare docs/map/*": (
        "tests/runner/test_kept.py",
        '["compare", str(before), str(after)]',
    ),
    "make book": ("tests/test_book.py", '["make", "book"'),
    "python -m pytest tests/test_book.py --screenshots": ("tests/test_book.py", "--screenshots"),
    "apt install *": ("", "changes the machine, and needs a network"),
    "conda env create -f environment*.yml": (".github/workflows/xpu.yml", "environment-file:"),
    "conda activate xpuqlib": (".github/workflows/xpu.yml", "activate-environment:"),
    "dask scheduler": ("tests/runner/test_dask.py", '"scheduler"'),
    "ZE_AFFINITY_MASK=0 dask worker *": ("tests/runner/test_dask.py", '"worker"'),
    "nbgrader generate_assignment": ("xpuqlib/classroom/grading.py", "generate_assignment"),
    "xpuq draft --check *": ("tests/runner/test_drafts.py", "check_draft(path) == []"),
    "xpuq run 09 -p model=my_models.py:classifier *": (
        "tests/test_own_lesson.py",
        'f"{own}:classifier"',
    ),
    "xpuq ship": ("tests/runner/test_shipping.py", '["ship", str(run), "--out"'),
    "xpuq ship *": ("tests/runner/test_shipping.py", '["ship", str(run), "--out"'),
    "python reproducers/reproduce.py --record": (
        "tests/test_reproducers.py",
        'FOLDER / "reproduce.py", "--record"',
    ),
    "python shipped/run.py": ("tests/runner/test_shipping.py", 'folder / "run.py"'),
    "xpuq sweep 09 *": ("tests/proof/test_families.py", "efficientnet_b0"),
    "xpuq doctor": ("tests/test_cli.py", 'xpuq("doctor"'),
    "xpuq classroom": ("tests/test_cli.py", '["classroom", "course"'),
    "xpuq classroom my-course --language zh": (
        "tests/runner/test_language.py",
        '["classroom", "course", "--language", "zh"]',
    ),
    "xpuq run --language zh": ("tests/runner/test_language.py", '["run", "--language", "zh"'),
    "xpuq classroom --check": ("tests/test_cli.py", '["classroom", "--check"]'),
    "xpuq classroom --check --lessons 03": ("tests/test_cli.py", '["classroom", "--check"]'),
    "xpuq prefetch": ("tests/test_cli.py", '["prefetch", "--model", "resnet18"]'),
    "xpuq prefetch --weights imagenet": ("tests/test_cli.py", '["--weights", "coco"]'),
    "xpuq prefetch --check": ("tests/test_cli.py", '["prefetch", "--check"]'),
}


def without_comment(line: str) -> str:
    return re.split(r"\s+#", line)[0].strip()


def blocks() -> list[list[str]]:
    """Commands of each fenced block for a shell."""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    fenced = [block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
    return [
        [without_comment(x) for x in block.splitlines() if without_comment(x)] for block in fenced
    ]


def inline() -> list[str]:
    """Commands between backquotes in the text, each once."""
    found = []
    for path in DOCUMENTS:
        prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        found += re.findall(rf"`((?:\w+=\S+ )?(?:{PROGRAMS}) [^`]+)`", prose)
    return sorted(set(found))


def targets() -> list[str]:
    """Targets of the Makefile that are commands."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [f"make {name}" for name in re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split()]


BLOCKS, INLINE, TARGETS = blocks(), inline(), targets()
LINES = [line for block in BLOCKS for line in block]
# `make` below adds ARGS=--smoke to every target.
ALONE = sorted({line.removesuffix(" ARGS=--smoke") for line in (*INLINE, *TARGETS)} - {*LINES})


def elsewhere(command: str) -> str | None:
    matches = [pattern for pattern in ELSEWHERE if fnmatch.fnmatchcase(command, pattern)]
    return matches[0] if matches else None


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_proved_elsewhere_is_still_documented_and_proved(pattern):
    place, words = ELSEWHERE[pattern]
    assert any(fnmatch.fnmatchcase(command, pattern) for command in [*LINES, *ALONE])
    assert not place or words in (ROOT / place).read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that looks like the project: this environment as its venv, tiny lessons."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("benchmarks", "xpuqlib", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for track, folder in (("current", ".venv"), ("ipex", ".venv-ipex")):
        venv = tmp_path / folder
        venv.mkdir()
        for path in Path(sys.prefix).iterdir():
            if path.name != "torch-index":
                (venv / path.name).symlink_to(path)
        # The Makefile installs when pyproject.toml is newer than this.
        (venv / f"installed-{track}").unlink(missing_ok=True)
        (venv / f"installed-{track}").touch()
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for name in ("00_a", "01_a", "03_a", "08_a"):
        write_notebook(notebooks / f"{name}.ipynb", PARAMETERS, "1")
    (tmp_path / "tests").mkdir()
    for name in ("test_one.py", "test_claims_isa.py"):
        (tmp_path / "tests" / name).write_text("def test_one():\n    pass\n")
    sweeps_page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    yaml = re.search(r"```yaml\n# grid.yaml\n(.*?)```", sweeps_page, re.S)
    (tmp_path / "grid.yaml").write_text(yaml[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def succeeds(*command: str) -> str:
    child = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert child.returncode == 0, child.stdout[-3000:] + child.stderr[-3000:]
    return child.stdout


def make(*arguments: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("GNU Make is not installed here")
    index = [value for value in arguments if value.startswith("TORCH_INDEX=")]
    if index:  # a venv whose torch is from there already: installing it needs the network
        for venv in (".venv", ".venv-ipex"):
            Path(venv, "torch-index").write_text(index[0].partition("=")[2])
    if arguments[0] == "lab":  # a server that would stay
        succeeds(".venv/bin/jupyter", "lab", "notebooks", "--version")
        return
    said = succeeds(
        "make", *arguments, "ARGS=--smoke", "PYTHON=false"
    )  # never a venv over this one
    if arguments[0].startswith("benchmark"):
        assert "these numbers say nothing about speed" in said
    if arguments[0] == "clean":
        assert not Path(".venv").exists()
        assert Path(sys.prefix, "bin").exists()
    assert "-m pip install" not in said


def pip(*arguments: str) -> None:
    """Installing needs the network: the extras that are named must exist."""
    extras = re.findall(r"^(\w+) = \[", Path("pyproject.toml").read_text(encoding="utf-8"), re.M)
    [named] = re.findall(r"^\.\[(.*)\]$", arguments[-1])
    assert arguments[:-1] == ("install", "-e")
    assert {*named.split(",")} <= {*extras}


def python(*arguments: str) -> None:
    succeeds(sys.executable, *arguments)


def xpuq(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if "--scheduler" in arguments:  # tests/runner/test_dask.py has one
            given = {}
            patch.setattr(sweeps, "sweep", lambda *_, **settings: given.update(settings) or [])
        if arguments[0] == "classroom":
            shutil.rmtree("notebooks")
            for name in ("01_a", "03_a"):
                write_lesson(Path("notebooks", f"{name}.ipynb"))
        if arguments[0] == "compare":
            shutil.copytree(arguments[1], arguments[2])
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    if "--scheduler" in arguments:
        assert given["scheduler"].startswith("tcp://")
        assert given["resources"] == {"XPU": 1}


ON_IPEX = [f"make benchmark-{name}" for name in ("classroom", "explorers", "runner", "sweep")]
RUN = {"make": make, "pip": pip, "python": python, "xpuq": xpuq}


def marked(command: str, value: object) -> object:
    """What computes most with torch is run on both tracks, the other benchmarks on either."""
    if command == "make benchmark" or command.startswith("xpuq draft"):
        return pytest.param(value, id=command)
    track = "ipex" if command in ON_IPEX else "current"
    only = large_on if command.startswith("make benchmark") else no_torch_in_it
    return pytest.param(value, id=command, marks=only(track))


def follow(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program in RUN, f"{command} is neither run nor named in ELSEWHERE"
    RUN[program](*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [marked(lines[0], lines) for lines in BLOCKS])
def test_the_lines_of_a_block_work_one_after_the_other(lines, project):
    for line in lines:
        if not elsewhere(line):
            follow(line)


@pytest.mark.slow
@pytest.mark.parametrize("command", [marked(x, x) for x in ALONE if not elsewhere(x)])
def test_a_command_works(command, project):
    follow(command)


def test_something_was_found():
    assert {"make benchmark", "make run"} <= {*TARGETS}
    assert "xpuq parameters 03" in INLINE
    assert "xpuq doctor" in LINES
