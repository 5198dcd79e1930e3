import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from xpuqlib.errors import TrackError
from xpuqlib.machine import environment
from xpuqlib.machine.environment import IPEX, RESULTS, TRACKS, results_folder

ROOT = Path(__file__).parents[2]


def extras() -> dict[str, set[str]]:
    """Extras of pyproject.toml, read as the installed metadata shows them."""
    found: dict[str, set[str]] = {}
    for text in metadata.requires("xpuqlib"):
        requirement = Requirement(text)
        if requirement.marker and (
            extra := re.search(r'extra == "(\w+)"', str(requirement.marker))
        ):
            found.setdefault(extra[1], set()).add(f"{requirement.name}{requirement.specifier}")
    return found


def pip_part(path: Path) -> tuple[list[str], dict[str, str]]:
    """Options, and pins by package, of a conda environment's pip part."""
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    [pip] = [d["pip"] for d in dependencies if isinstance(d, dict) and "pip" in d]
    options = [line for line in pip if line.startswith("-")]
    return options, dict(line.split("==") for line in pip if not line.startswith("-"))


@pytest.mark.parametrize("track", TRACKS.values(), ids=list(TRACKS))
def test_version_table_is_what_pyproject_installs(track):
    table = {f"{package}{spec}" for package, spec in track.requires.items()}
    normal = {str(Requirement(text)) for text in table}
    assert {str(Requirement(text)) for text in extras()[track.name]} == normal


@pytest.mark.parametrize("track", TRACKS.values(), ids=list(TRACKS))
def test_conda_environment_pins_the_version_table(track):
    options, pins = pip_part(ROOT / track.conda_file)
    assert pins == track.xpu_pins
    assert any("download.pytorch.org/whl/xpu" in option for option in options)
    assert any(option.startswith("-e .") for option in options)
    for package, spec in track.requires.items():
        assert Requirement(f"{package}{spec}").specifier.contains(pins[package])


@pytest.mark.parametrize("track", TRACKS.values(), ids=list(TRACKS))
def test_conda_environment_names_the_notebook_tools_as_pyproject_does(track):
    text = (ROOT / track.conda_file).read_text(encoding="utf-8")
    named = {line for line in yaml.safe_load(text)["dependencies"] if isinstance(line, str)}
    required = [Requirement(text) for text in metadata.requires("xpuqlib")]
    for tool in ("jupyterlab", "nbval", "ipywidgets", "papermill"):
        [asked] = [r for r in required if r.name == tool]
        assert f"{tool}{asked.specifier}" in named


@pytest.mark.parametrize("track", TRACKS.values(), ids=list(TRACKS))
def test_makefile_takes_the_same_versions_from_another_index(track):
    [line] = re.findall(
        rf"^TORCH_{track.name} := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M
    )
    asked = {str(Requirement(text)) for text in re.findall(r'"(.*?)"', line)}
    table = {str(Requirement(f"{p}{s}")) for p, s in track.requires.items() if p != IPEX}
    assert asked == table


@pytest.mark.parametrize(
    ("torch", "track"),
    [("2.8.0+xpu", "ipex"), ("2.8.0", "ipex"), ("2.11.0+cu130", "current"), ("2.15.0", "current")],
)
def test_track_of_a_torch_version(monkeypatch, torch, track):
    monkeypatch.setattr(environment, "installed_version", {"torch": torch}.get)
    assert environment.current_track().name == track


@pytest.mark.parametrize("torch", [None, "2.7.1", "2.9.0", "2.10.0"])
def test_no_track_is_an_error_that_names_the_fix(monkeypatch, torch):
    monkeypatch.setattr(environment, "installed_version", {"torch": torch}.get)
    with pytest.raises(TrackError, match="Fix: "):
        environment.current_track()


@pytest.mark.parametrize(
    ("ipex", "torch", "mismatch"),
    [
        (None, "2.15.0", False),
        ("2.8.10+xpu", "2.8.0+xpu", False),
        ("2.8.0", "2.15.0", True),
        ("2.8.0", "2.8.0+xpu", True),
        ("2.8.0", None, True),
    ],
)
def test_ipex_is_compared_with_torch(monkeypatch, ipex, torch, mismatch):
    monkeypatch.setattr(environment, "installed_version", {IPEX: ipex, "torch": torch}.get)
    assert (environment.ipex_mismatch() is not None) == mismatch


def test_packages_installed_here_belong_together():
    assert environment.requirement_problems() == []


def test_a_torchvision_for_another_torch_is_found(monkeypatch):
    real = metadata.requires
    monkeypatch.setattr(
        metadata, "requires", lambda p: ["torch==1.0"] if p == "torchvision" else real(p)
    )
    assert any("torch==1.0 is needed" in problem for problem in environment.requirement_problems())


def test_importing_the_package_imports_no_torch():
    modules = "xpuqlib.machine.environment, xpuqlib.machine.doctor, xpuqlib.cli"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    assert environment.cache_dir() == tmp_path


def test_a_person_finds_the_files_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(RESULTS, raising=False)
    monkeypatch.chdir(tmp_path)
    assert results_folder("a").resolve() == tmp_path / "a"
    assert (tmp_path / "a").is_dir()
