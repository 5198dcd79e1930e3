import json
import subprocess
import sys
from collections import namedtuple
from importlib import metadata

import pytest
from typer.testing import CliRunner

from xpuqlib import cli
from xpuqlib.cli import app
from xpuqlib.machine import doctor, environment
from xpuqlib.machine.environment import IPEX


def checks() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.diagnose()}


@pytest.fixture
def pretend(monkeypatch):
    """Make other versions seem installed; None takes a package away."""
    real = environment.installed_version

    def install(**versions):
        versions = {name.replace("_", "-"): version for name, version in versions.items()}

        def fake(package):
            return versions[package] if package in versions else real(package)

        monkeypatch.setattr(environment, "installed_version", fake)
        monkeypatch.setattr(doctor, "installed_version", fake)

    return install


@pytest.fixture
def no_probe(monkeypatch):
    monkeypatch.setattr(doctor, "_devices", list)


def test_this_machine_can_run_the_lessons():
    found = checks()
    assert {name for name, check in found.items() if check.status == doctor.PROBLEM} == set()
    assert "vnni" in found["cpu"].found
    assert "threads" in found["cpu"].found
    assert found["best device"].found


def test_every_problem_and_warning_names_its_fix(pretend, monkeypatch):
    pretend(torch=None, torchvision=None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    bad = [check for check in doctor.diagnose() if check.status != doctor.OK]
    assert len(bad) >= 4
    assert all(check.fix for check in bad)


def test_it_answers_without_torch(pretend):
    pretend(torch=None, torchvision=None)
    found = checks()
    assert found["torch"].status == doctor.PROBLEM
    assert found["torch"].fix == 'pip install -e ".[current]"'
    assert found["devices"].status == doctor.PROBLEM


def test_it_answers_when_torch_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [check] = doctor._devices()
    assert check.status == doctor.PROBLEM
    assert "libtorch.so: cannot open" in check.found


def test_two_tritons_are_a_problem(pretend, no_probe):
    pretend(triton="3.9.0", pytorch_triton_xpu="3.4.0")
    check = checks()["Triton"]
    assert check.status == doctor.PROBLEM
    assert "pip uninstall triton pytorch-triton-xpu" in check.fix


def test_a_mismatched_ipex_is_seen_and_not_imported(tmp_path, monkeypatch):
    """A fake distribution whose import ends the process, as some builds of IPEX do."""
    version = "2.7.0" if environment.current_track().name == "ipex" else "2.8.0"
    info = tmp_path / "intel_extension_for_pytorch-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {IPEX}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(
        "[torch.backends]\nipex = intel_extension_for_pytorch:go\n"
    )
    (tmp_path / "intel_extension_for_pytorch.py").write_text("import os\nos._exit(127)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-m", "xpuqlib", "doctor", "--json"], capture_output=True, text=True
    )
    found = {check["name"]: check for check in json.loads(run.stdout)}
    assert run.returncode == 1
    assert found["IPEX"]["status"] == "problem"
    assert version in found["IPEX"]["found"]
    assert found["cpu"]["status"] in ("ok", "warning")  # torch was imported, IPEX was not


def test_ipex_is_said_to_be_archived(pretend, no_probe):
    pretend(torch=None, torchvision="0.23.0", **{IPEX: "2.8.0"})
    found = checks()
    assert found[IPEX].found.startswith("2.8.0; archived since 2026-03-30")
    assert found["torchvision"].found == "0.23.0"
    pretend(**{IPEX: None})
    assert checks()[IPEX].found == "not installed"


def test_the_table_shows_a_fix_as_it_must_be_typed(pretend, no_probe, monkeypatch):
    pretend(torch=None, torchvision=None)
    monkeypatch.setattr(cli.CONSOLE, "_width", 200)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert 'pip install -e ".[current]"' in result.stdout


def test_a_triton_for_another_torch_is_found(pretend, no_probe):
    if not any("triton" in text for text in metadata.requires("torch")):
        pytest.skip("this build of torch requires no Triton")
    pretend(triton="1.0.0")
    assert "triton" in checks()["packages together"].found


def test_packages_that_do_not_belong_together(pretend, no_probe):
    pretend(torchvision="0.1.0")
    check = checks()["packages together"]
    assert check.status == doctor.PROBLEM
    assert "0.1.0 is installed" in check.found


@pytest.mark.parametrize(
    ("device", "status", "said"),
    [
        ({"type": "cpu", "features": {"vnni": False}}, "warning", "saturate"),
        ({"type": "cpu", "features": {"vnni": True}}, "ok", ""),
        ({"type": "xpu", "features": {"xmx": False, "fp64": True}}, "warning", "XMX"),
        ({"type": "xpu", "features": {"xmx": True, "fp64": False}}, "warning", "fp64"),
        ({"type": "xpu", "features": {"xmx": True, "fp64": True}}, "ok", ""),
    ],
)
def test_devices_are_judged_by_what_int8_needs(device, status, said):
    check = doctor._device({"name": "a device", "memory_bytes": 2**30, **device})
    assert check.status == status
    assert said in check.fix


def test_an_unwritable_cache_and_a_full_disk(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path / "file" / "cache"))
    weights, *others = doctor._folders()
    assert weights.status == doctor.PROBLEM
    assert "cannot be written: Not a directory" in weights.found
    assert "Set XPUQLIB_CACHE" in weights.fix
    assert {check.status for check in others} == {doctor.OK}
    monkeypatch.undo()
    usage = namedtuple("usage", "total used free")(100, 99, 2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert {check.status for check in doctor._folders()} == {doctor.WARNING}


def test_on_windows_only_what_inductor_finds_counts(monkeypatch):
    monkeypatch.setattr(doctor.os, "name", "nt")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name == "g++" else None)
    assert doctor._compiler().status == doctor.PROBLEM
    assert "Visual Studio" in doctor._compiler().fix
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name == "cl" else None)
    assert doctor._compiler().found == "cl"


def test_missing_compiler_and_headers(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor._compiler().status == doctor.PROBLEM
    monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert doctor._headers().status == doctor.PROBLEM
