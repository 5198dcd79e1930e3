"""What this machine can run: each check says ok, warning or problem, with its fix."""

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

from xpuqlib.errors import TrackError
from xpuqlib.machine import environment
from xpuqlib.machine.environment import cache_dir, installed_version

__all__ = ["Check", "diagnose"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MIN_FREE_GB = 1
ARCHIVED = "; archived since 2026-03-30, with known security issues unpatched"  # IPEX
PROBE_SECONDS = 120  # importing torch from a cold disk takes up to a minute

# What int8 wants of a device: its type, the feature, what to know where that is missing.
WANTED = [
    ("cpu", "vnni", "int8 sums may saturate here; compare SQNR, not speed."),
    ("xpu", "xmx", "No XMX units: expect int8 to be correct, not fast."),
    ("xpu", "fp64", "No fp64: per-channel int8 convs of IPEX need it."),
]

# In a process of its own: a broken installation may end the process that imports torch.
_PROBE = """
import json
import torch
from xpuqlib.machine.device import choose_device, describe_device
names = [n for n in ("xpu", "cuda", "cpu") if n == "cpu" or getattr(torch, n).is_available()]
found = [describe_device(choose_device(name)).to_dict() for name in names]
print("DEVICES=" + json.dumps(found, default=str))
"""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, `ok`, `warning` or `problem`, what was found, the fix."""

    name: str
    status: str
    found: str
    fix: str = ""


def _check(name: str, found: str, bad: Any, fix: str, status: str = PROBLEM) -> Check:
    return Check(name, status, found, fix) if bad else Check(name, OK, found)


def diagnose() -> list[Check]:
    """Run every check. Answers without torch, with two Tritons, and beside a mismatched IPEX."""
    freezing = os.environ.get("TORCHINDUCTOR_FREEZING", "unset")
    said = f"TORCHINDUCTOR_FREEZING is {freezing}; the lessons switch it on"
    own = [Check("Python", OK, platform.python_version()), Check("freezing", OK, said)]
    return [*own, *_packages(), *_devices(), _compiler(), _headers(), *_folders()]


def _packages() -> list[Check]:
    checks = []
    for package in environment.PACKAGES:
        version = installed_version(package)
        missing = not version and package in ("torch", "torchvision")
        archived = ARCHIVED if version and package == environment.IPEX else ""
        found, fix = f"{version or 'not installed'}{archived}", 'pip install -e ".[current]"'
        checks.append(_check(package, found, missing, fix))
    tritons = environment.triton_packages()
    named = ", ".join(f"{package} {version}" for package, version in tritons.items()) or "none"
    several = ": they overwrite each other's files" if len(tritons) > 1 else ""
    fix = f"pip uninstall {' '.join(tritons)}, then install the one that torch requires."
    checks.append(_check("Triton", f"{named}{several}", several, fix))
    if mismatch := environment.ipex_mismatch():
        fix = f"pip uninstall {environment.IPEX}, or make a venv of its own for the ipex track."
        found = f"{mismatch}: importing it can end the kernel"
        checks.append(Check("IPEX", PROBLEM, found, fix))
    try:
        track = environment.current_track().name
    except TrackError as error:
        return [*checks, Check("track", PROBLEM, error.cause, error.fix)]
    problems = "; ".join(environment.requirement_problems())
    fix = f'pip install -e ".[{track}]" in a fresh venv.'
    together = _check("packages together", problems or "they belong together", problems, fix)
    return [*checks, Check("track", OK, track), together]


def _devices() -> list[Check]:
    if not installed_version("torch"):
        return [Check("devices", PROBLEM, "unknown without torch", "Install torch first.")]
    # torch loads installed backends on import, which must not happen beside a mismatched one.
    env = os.environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            env=env,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        found = f"importing torch took over {PROBE_SECONDS} s"
        return [Check("devices", PROBLEM, found, "Try again; then look for a hanging driver.")]
    lines = [line for line in probe.stdout.splitlines() if line.startswith("DEVICES=")]
    if not lines:
        last = (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
        fix = "Install the track in a fresh venv (docs/install.md)."
        return [Check("devices", PROBLEM, f"torch does not import: {last}", fix)]
    found = json.loads(lines[0].removeprefix("DEVICES="))
    kind, mode = found[0]["type"], found[0]["mode"]
    best = "cpu: int8 is rehearsed, no XPU is available" if kind == "cpu" else f"{kind}: {mode}"
    return [*map(_device, found), Check("best device", OK, best)]


def _device(device: dict[str, Any]) -> Check:
    kind, memory, features = device["type"], device["memory_bytes"], device["features"]
    details = [device["name"], f"{memory / 2**30:.1f} GiB"] if memory else [device["name"]]
    details += [f"{key} {value}" for key, value in features.items()]
    fixes = [fix for of, name, fix in WANTED if of == kind and not features.get(name, True)]
    return _check(kind, ", ".join(details), fixes, " ".join(fixes), WARNING)


def _compiler() -> Check:
    names = ["g++", "clang++", "icpx"]
    fix = "Install g++ (Debian: apt install g++; conda: cxx-compiler)."
    if os.name == "nt":  # there Inductor looks for nothing but CXX and cl
        names = ["cl"]
        fix = "Install Visual Studio's C++ build tools, and start from their command prompt."
    found = map(shutil.which, filter(None, [os.environ.get("CXX"), *names]))
    path = next(filter(None, found), None)
    return _check("C++ compiler", path or "none: Inductor cannot compile", not path, fix)


def _headers() -> Check:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = "" if header.exists() else " is missing: Inductor includes it"
    fix = "Debian: apt install python3-dev; or use conda's Python."
    return _check("Python headers", f"{header}{missing}", missing, fix)


def _folders() -> list[Check]:
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir()
    places = {"weights cache": cache_dir(), "Inductor cache": Path(inductor), "runs": Path("runs")}
    checks = []
    for name, folder in places.items():
        existing = next(
            p for p in (folder.absolute(), *folder.absolute().parents) if os.path.exists(p)
        )
        try:
            free = shutil.disk_usage(existing).free / 2**30
            tempfile.TemporaryFile(dir=existing).close()  # permissions alone do not tell
        except OSError as error:
            fix = "Set XPUQLIB_CACHE, TORCHINDUCTOR_CACHE_DIR to a folder of yours; work in one."
            found = f"{folder} cannot be written: {error.strerror}"
            checks.append(Check(name, PROBLEM, found, fix))
        else:
            found, fix = f"{folder}, {free:.1f} GiB free", f"Free at least {MIN_FREE_GB} GiB."
            checks.append(_check(name, found, free < MIN_FREE_GB, fix, WARNING))
    return checks
