"""What this machine can run: each check says ok, warning or problem, with its mend."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpuqlib import environment
from xpuqlib.environment import cache_dir, installed_version
from xpuqlib.errors import TrackError

__all__ = ["Check", "diagnose"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MIN_FREE_GB, MIN_PYTHON = 1, (3, 10)
PROBE_TIMEOUT = 120  # seconds; importing torch from a cold disk takes up to a minute

# In a process of its own: a broken installation may end the process that imports torch.
_PROBE = """
import json
from dataclasses import asdict
import torch
from xpuqlib.device import choose_device, describe_device
found = []
for name in ("xpu", "cuda", "cpu"):
    if name == "cpu" or getattr(torch, name).is_available():
        found.append(describe_device(choose_device(name)).to_dict())
print("DEVICES=" + json.dumps(found, default=str))
"""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, `ok`, `warning` or `problem`, what was found, the mend."""

    name: str
    status: str
    found: str
    mend: str = ""


def diagnose() -> list[Check]:
    """Run every check. Answers without torch, with two Tritons, and beside a mismatched IPEX."""
    return [_python(), *_packages(), *_devices(), _compiler(), _headers(), _freezing(), *_folders()]


def _python() -> Check:
    if sys.version_info >= MIN_PYTHON:
        return Check("Python", OK, platform.python_version())
    return Check("Python", PROBLEM, platform.python_version(), "Install Python 3.10 or newer.")


def _said_of(package: str, version: str | None) -> str:
    if version and package == environment.IPEX:
        return f"{version}; archived since 2026-03-30, with known security issues unpatched"
    return version or "not installed"


def _packages() -> list[Check]:
    found = {package: installed_version(package) for package in environment.PACKAGES}
    checks = [
        Check(package, OK, _said_of(package, version))
        for package, version in found.items()
        if version or package not in ("torch", "torchvision")
    ]
    for package in ("torch", "torchvision"):
        if not found[package]:
            checks.append(Check(package, PROBLEM, "not installed", 'pip install -e ".[current]"'))
    tritons = environment.triton_packages()
    named = ", ".join(f"{package} {version}" for package, version in tritons.items()) or "none"
    if len(tritons) > 1:
        mend = f"pip uninstall {' '.join(tritons)}, then install the one that torch requires."
        found = f"{named}: they overwrite each other's files"
        checks.append(Check("Triton", PROBLEM, found, mend))
    else:
        checks.append(Check("Triton", OK, named))
    if mismatch := environment.ipex_mismatch():
        mend = f"pip uninstall {environment.IPEX}, or make a venv of its own for the ipex track."
        found = f"{mismatch}: importing it can end the kernel"
        checks.append(Check("IPEX", PROBLEM, found, mend))
    try:
        checks.append(Check("track", OK, environment.current_track().name))
    except TrackError as error:
        checks.append(Check("track", PROBLEM, error.cause, error.mend))
        return checks
    problems = environment.requirement_problems()
    if problems:
        mend = f'pip install -e ".[{environment.current_track().name}]" in a fresh venv.'
        checks.append(Check("packages together", PROBLEM, "; ".join(problems), mend))
    else:
        checks.append(Check("packages together", OK, "they belong together"))
    return checks


def _devices() -> list[Check]:
    if not installed_version("torch"):
        return [Check("devices", PROBLEM, "unknown without torch", "Install torch first.")]
    # torch loads installed backends on import, which must not happen beside a mismatched one.
    env = os.environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    try:
        command = [sys.executable, "-c", _PROBE]
        probe = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=PROBE_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        found = f"importing torch took over {PROBE_TIMEOUT} s"
        return [Check("devices", PROBLEM, found, "Try again; then look for a hanging driver.")]
    lines = [line for line in probe.stdout.splitlines() if line.startswith("DEVICES=")]
    if not lines:
        last = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
        mend = "Install the track in a fresh venv (README.md)."
        return [Check("devices", PROBLEM, f"torch does not import: {last}", mend)]
    found = json.loads(lines[0].removeprefix("DEVICES="))
    checks = [_device(device) for device in found]
    if found[0]["type"] == "cpu":
        checks.append(Check("best device", OK, "cpu: int8 is rehearsed, no XPU is available"))
    else:
        checks.append(Check("best device", OK, f"{found[0]['type']}: {found[0]['mode']}"))
    return checks


def _device(device: dict[str, Any]) -> Check:
    features = device["features"]
    details = [device["name"]]
    if device["memory_bytes"]:
        details.append(f"{device['memory_bytes'] / 2**30:.1f} GiB")
    details += [f"{key} {value}" for key, value in features.items()]
    found = ", ".join(details)
    if device["type"] == "cpu" and not features["vnni"]:
        return Check("cpu", WARNING, found, "int8 sums may saturate here; compare SQNR, not speed.")
    if device["type"] == "xpu" and not features.get("xmx", True):
        return Check("xpu", WARNING, found, "No XMX units: expect int8 to be correct, not fast.")
    if device["type"] == "xpu" and not features.get("fp64", True):
        return Check("xpu", WARNING, found, "No fp64: per-channel int8 convs of IPEX need it.")
    return Check(device["type"], OK, found)


def _compiler() -> Check:
    windows = os.name == "nt"  # there Inductor looks for nothing but CXX and cl
    names = ["cl"] if windows else ["g++", "clang++", "icpx"]
    for name in filter(None, [os.environ.get("CXX"), *names]):
        if path := shutil.which(name):
            return Check("C++ compiler", OK, path)
    mend = "Install g++ (Debian: apt install g++; conda: cxx-compiler)."
    if windows:
        mend = "Install Visual Studio's C++ build tools, and start from their command prompt."
    return Check("C++ compiler", PROBLEM, "none: Inductor cannot compile", mend)


def _headers() -> Check:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if header.exists():
        return Check("Python headers", OK, str(header))
    found = f"{header} is missing: Inductor includes it"
    mend = "Debian: apt install python3-dev; or use conda's Python."
    return Check("Python headers", PROBLEM, found, mend)


def _freezing() -> Check:
    value = os.environ.get("TORCHINDUCTOR_FREEZING")
    said = "unset" if value is None else value
    return Check("freezing", OK, f"TORCHINDUCTOR_FREEZING is {said}; the lessons switch it on")


def _folders() -> list[Check]:
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir()
    places = {"weights cache": cache_dir(), "Inductor cache": Path(inductor), "runs": Path("runs")}
    checks = []
    for name, folder in places.items():
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        found = f"{folder}, {free:.1f} GiB free"
        if not os.access(existing, os.W_OK):
            mend = "Set XPUQLIB_CACHE, TORCHINDUCTOR_CACHE_DIR to a folder of yours; work in one."
            checks.append(Check(name, PROBLEM, f"{folder} cannot be written", mend))
        elif free < MIN_FREE_GB:
            checks.append(Check(name, WARNING, found, f"Free at least {MIN_FREE_GB} GiB."))
        else:
            checks.append(Check(name, OK, found))
    return checks
