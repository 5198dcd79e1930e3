"""The silent failures, reproduced without this kit: does each row of the table still hold here?"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "reproducers"
ROWS = yaml.safe_load((FOLDER / "rows.yml").read_text(encoding="utf-8"))
FILES = {int(path.stem[:2]): path for path in FOLDER.glob("[0-9]*.py")}
RELEASE = Version(Version(torch.__version__).base_version)
MINOR = ".".join(map(str, RELEASE.release[:2]))
DOCUMENTS = (ROOT / "docs" / "silent_failures.md", ROOT / "README.md")


def expected(row):
    """Verdict for the torch that is installed; None where nobody has looked."""
    if RELEASE in SpecifierSet(row["seen"]):
        return "happens"
    return "does not happen" if RELEASE in SpecifierSet(row.get("not_seen", "<0")) else None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All reproducers, run as README says; what each said, by its name."""
    kept = tmp_path_factory.mktemp("reproducers") / "here.yml"
    command = [sys.executable, FOLDER / "reproduce.py", "--record", "--to", kept]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert child.returncode == 0, child.stdout + child.stderr
    return yaml.safe_load(kept.read_text(encoding="utf-8"))[MINOR]["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [n for n in ROWS if "reason" not in ROWS[n]])
def test_a_row_of_the_table_holds_here(number, runs):
    due, run = expected(ROWS[number]), runs[FILES[number].stem]
    if due is None:
        pytest.skip(f"nobody has looked at row {number} on torch {MINOR}: it {run['verdict']}")
    assert run["verdict"] == due, (
        f"Row {number} of the table of silent failures is no longer true: on torch {MINOR} it "
        f"{run['verdict']} ({run['said']}). Fix: change row {number}, exhibit {number} of lesson "
        f"12, and reproducers/rows.yml; then python reproducers/reproduce.py --record"
    )


def test_each_row_has_a_reproducer_or_a_reason():
    tables = [
        re.findall(r"^\| (\d+) \| ", p.read_text(encoding="utf-8"), re.M)
        for p in DOCUMENTS
        if p.exists()
    ]
    assert sorted(int(number) for table in tables for number in table) == sorted(ROWS)
    assert sorted(FILES) == [number for number, row in ROWS.items() if "reason" not in row]


@pytest.mark.parametrize("path", FILES.values(), ids=lambda path: path.stem)
def test_a_reproducer_is_short_and_knows_nothing_of_this_kit(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert "xpuqlib" not in text
    assert text.startswith(f'"""Row {int(path.stem[:2])}. ')
    assert re.search(r"^Expected: ", text, re.M)
    assert re.search(r"^Seen", text, re.M)


@pytest.mark.parametrize("release", ["2.8", "2.15"])
def test_what_is_recorded_is_what_is_expected(release, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "RELEASE", Version(release))
    recorded = yaml.safe_load((FOLDER / "recorded.yml").read_text(encoding="utf-8"))[release]
    assert recorded["versions"]["torch"].startswith(f"{release}.")
    verdicts = {number: recorded["runs"][FILES[number].stem]["verdict"] for number in FILES}
    assert verdicts == {number: expected(ROWS[number]) for number in FILES}


def test_lesson_12_shows_what_was_recorded():
    [lesson] = (ROOT / "notebooks").glob("12_*.ipynb")
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    shown = re.findall(r"\*recorded on torch ([\d.]+)\*, row (\d+): `([^`]*)`", text)
    recorded = yaml.safe_load((FOLDER / "recorded.yml").read_text(encoding="utf-8"))
    rows = {int(number) for _, number, _ in shown}
    assert rows >= {number for number, row in ROWS.items() if "not_seen" in row}
    for release, number, said in shown:
        assert said == recorded[release]["runs"][FILES[int(number)].stem]["said"]


def test_the_checklist_asks_for_every_row():
    text = (ROOT / "CHECKLIST.md").read_text(encoding="utf-8")
    named = re.findall(r"\(([\d, ]+)\)", text)
    assert sorted(int(n) for numbers in named for n in numbers.split(",")) == sorted(ROWS)
