"""Versions: what is installed, what belongs together, which track this interpreter can run.

Imports no torch, so it answers where torch is missing or broken. `TRACKS` is the one source of
truth for versions, and stands in tracks.yml.
"""

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import platformdirs
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xpuqlib.errors import TrackError

__all__ = [
    "PACKAGES",
    "RESULTS",
    "TRACKS",
    "Track",
    "cache_dir",
    "current_track",
    "installed_version",
    "ipex_mismatch",
    "pt2e_home",
    "requirement_problems",
    "results_folder",
    "triton_packages",
    "versions",
]

IPEX = "intel-extension-for-pytorch"
PACKAGES = ("torch", "torchvision", "torchao", IPEX)
TRITON_PACKAGES = ("triton", "pytorch-triton", "pytorch-triton-xpu", "triton-xpu")


@dataclass(frozen=True)
class Track:
    """One set of packages that belong together.

    Attributes
    ----------
    name : str
        ``current`` or ``ipex``.
    requires : dict of str to str
        Package to version specifier, as in the extra of the same name in pyproject.toml.
    xpu_pins : dict of str to str
        Package to the exact version for Intel GPUs, as in the conda environment.
    conda_file : str
        The conda environment of this track.
    """

    name: str
    requires: dict[str, str]
    xpu_pins: dict[str, str]
    conda_file: str


_DATA = yaml.safe_load(Path(__file__).with_name("tracks.yml").read_text(encoding="utf-8"))
TRACKS = {name: Track(name, **track) for name, track in _DATA.items()}
RESULTS = "XPUQLIB_RESULTS"  # tells a kernel where to leave the files that belong to its run


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, or None; nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide what a lesson can show."""
    return {package: installed_version(package) for package in PACKAGES} | triton_packages()


def triton_packages() -> dict[str, str]:
    """Every installed distribution that provides the module ``triton``: one at most is right."""
    found = {package: installed_version(package) for package in TRITON_PACKAGES}
    return {package: version for package, version in found.items() if version}


def current_track() -> Track:
    """Find the track that the installed torch belongs to.

    Raises
    ------
    TrackError
        If torch is missing or belongs to no track (2.9 and 2.10 have PT2E in a broken
        in-between state).
    """
    torch = installed_version("torch")
    if torch is None:
        raise TrackError("torch is not installed here.", 'pip install -e ".[current]"')
    for track in TRACKS.values():
        if SpecifierSet(track.requires["torch"]).contains(Version(torch).base_version):
            return track
    supported = " or ".join(f"torch{track.requires['torch']}" for track in TRACKS.values())
    fix = f"Install {supported} (docs/install.md)."
    raise TrackError(f"torch {torch} belongs to no track.", fix)


def pt2e_home() -> str:
    """Name of the package in which PT2E quantization lives: ``torchao`` or ``torch.ao``."""
    return "torch.ao" if current_track().name == "ipex" else "torchao"


def requirement_problems() -> list[str]:
    """List what the packages require of each other, and their track of them, that does not hold."""
    try:
        track = current_track()
    except TrackError as error:
        return [error.cause]
    needed = [Requirement(f"{package}{spec}") for package, spec in track.requires.items()]
    for package in filter(installed_version, PACKAGES):
        for requirement in map(Requirement, metadata.requires(package) or []):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            requirement.marker = None  # said: it need not be printed
            if requirement.name in (*PACKAGES, *TRITON_PACKAGES) and applies:
                needed.append(requirement)
    problems = set()
    for requirement in needed:
        have = installed_version(requirement.name)
        if have is None and requirement.name != IPEX:  # without IPEX the ipex track still runs
            problems.add(f"{requirement} is needed, but it is missing")
        elif have and not requirement.specifier.contains(have, prereleases=True):
            problems.add(f"{requirement} is needed, but {have} is installed")
    return sorted(problems)


def ipex_mismatch() -> str | None:
    """Why IPEX must not be imported here, or None.

    Importing IPEX beside another minor version of torch ends the process in some builds
    (``os._exit``), which no ``except`` sees: so the versions are compared without an import.
    """
    ipex, torch = installed_version(IPEX), installed_version("torch")
    if ipex is None:
        return None
    if torch is None:
        return f"IPEX {ipex} is installed without torch"
    if Version(ipex).release[:2] != Version(torch).release[:2]:
        return f"IPEX {ipex} needs torch {'.'.join(ipex.split('.')[:2])}.*, not {torch}"
    if ("+xpu" in ipex) != ("+xpu" in torch):
        return f"IPEX {ipex} and torch {torch} are not both built for XPU"
    return None


def results_folder(name: str) -> Path:
    """Give a notebook the folder for its files, such as a script that it writes.

    `xpuq run` and sweeps keep them beside its executed notebook. Where nothing runs the notebook
    but a person, it is the folder `name` in the current one.
    """
    folder = Path(os.environ.get(RESULTS) or name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_dir() -> Path:
    """Folder for trained weights; ``XPUQLIB_CACHE`` overrides the user's cache folder."""
    return Path(os.environ.get("XPUQLIB_CACHE") or platformdirs.user_cache_dir("xpuqlib"))
