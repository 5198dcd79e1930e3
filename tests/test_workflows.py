"""The workflows for GitHub: what only a runner executes must at least agree with the project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from xpuqlib.machine.environment import TRACKS

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"


def steps(name, job):
    jobs = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))["jobs"]
    return jobs[job], [step["run"] for step in jobs[job]["steps"] if "run" in step]


def test_cpu_workflow_tests_and_runs_both_tracks():
    job, commands = steps("cpu.yml", "tests")
    assert set(job["strategy"]["matrix"]["track"]) == set(TRACKS)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.12"]
    assert {"test", "run"} == {command.split()[1] for command in commands} <= set(targets)


def test_cpu_workflow_asserts_the_claims_on_both_tracks():
    job, commands = steps("cpu.yml", "claims")
    assert set(job["strategy"]["matrix"]["track"]) == set(TRACKS)
    assert [command.split()[:2] for command in commands] == [["make", "claims"]]


def test_xpu_workflow_makes_each_conda_environment():
    job, commands = steps("xpu.yml", "lessons")
    assert job["runs-on"] == ["self-hosted", "linux", "xpu"]
    for one in job["strategy"]["matrix"]["include"]:
        environment = yaml.safe_load((ROOT / one["environment"]).read_text(encoding="utf-8"))
        assert environment["name"] == one["name"]
    assert commands[0] == "xpuq doctor"
    assert "xpu.is_available()" in commands[1]
    assert '-m "not claims" --require xpu --nbval-lax' in commands[2]
    assert commands[3].startswith("xpuq run --device xpu --out")
    upload = job["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact")
    assert upload["with"]["path"].rstrip("/") in commands[3]


def test_book_workflow_publishes_what_make_book_builds_on_main_alone():
    job, commands = steps("book.yml", "build")
    assert commands == ["make book"]
    assert job["steps"][-1]["with"]["path"] in (ROOT / "Makefile").read_text(encoding="utf-8")
    deploy, _ = steps("book.yml", "deploy")
    assert deploy["needs"] == "build"
    assert deploy["if"] == "github.ref == 'refs/heads/main'"
    assert deploy["steps"][-1]["uses"].startswith("actions/deploy-pages")


def test_book_workflow_may_fail_at_links_to_the_outside():
    job, commands = steps("book.yml", "links")
    assert job["continue-on-error"] is True
    target = commands[0].removeprefix("make ")
    assert target == ".venv-book/installed-book"  # $(BOOK)/installed-book of the Makefile
    assert "-b linkcheck docs " in commands[1]
    assert (ROOT / "docs" / "conf.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xpu", "cuda"])
def test_a_required_device_that_is_missing_is_a_failure(kind):
    if getattr(torch, kind).is_available():
        pytest.skip(f"this machine has a {kind} device")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "xpu or cuda", "--require", kind]
    run = subprocess.run(
        [*command, "tests/machine/test_device.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1, run.stdout
    assert f"no {kind} device is available" in run.stdout
    other = "cuda" if kind == "xpu" else "xpu"
    there = getattr(torch, other).is_available()
    assert f"1 {'passed' if there else 'skipped'}, " in run.stdout  # not asked for: no failure
    assert "1 error" in run.stdout
