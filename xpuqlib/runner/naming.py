"""Which run it is, by a hash of all that makes it, and a file name that a person can read."""

import ast
import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from xpuqlib.machine.environment import versions
from xpuqlib.material.factory import factory_file, is_factory
from xpuqlib.runner.execution import Job
from xpuqlib.runner.parameters import notebook_parameters

__all__ = ["all_versions", "identity", "run_names"]

DIGITS = 12  # of the hash
LONGEST = {"notebook": 40, "value": 24, "parameters": 72}  # characters in a file's name
SOURCES = {".py", ".yml", ".html", ".j2"}


def identity(job: Job) -> str:
    """Identify a run: a hash of its notebook's name and cells, the parameters and the versions.

    A parameter that is given its default is the same as one that is not given; a file that one
    names, such as that of a model, counts with its content. Outputs do not count: executing a
    lesson in place changes no identity. xpuqlib counts with every line of its code, its tables
    and its templates.
    """
    notebook = json.loads(job.task().notebook)
    cells = [(cell["cell_type"], cell["source"]) for cell in notebook["cells"]]
    defaults = _defaults(job.notebook)
    others = {k: v for k, v in job.parameters.items() if k not in defaults or v != defaults[k]}
    parts = [job.notebook.stem, cells, others, _contents(others), all_versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _contents(parameters: dict[str, Any]) -> dict[str, str]:
    """Hash the files of a person's own model, weights and data, but not what those import.

    A factory counts with its file, also where a module is named: it is found, but not imported.
    """
    named = {name: str(parameters.get(name, "")) for name in ("model", "weights", "data", "recipe")}
    files = {n: factory_file(text) if is_factory(text) else text for n, text in named.items()}
    return {
        name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, file in files.items()
        if file and os.path.isfile(file)  # False for a text that is too long to be a path
    }


def _defaults(notebook: Path) -> dict[str, Any]:
    """Defaults that are plain values; what an expression gives, only its kernel knows."""
    found = {}
    for name, parameter in notebook_parameters(notebook).items():
        with suppress(ValueError, SyntaxError):
            found[name] = ast.literal_eval(parameter["default"])
    return found


def all_versions() -> dict[str, str | None]:
    """Versions of the packages and of Python, and a hash of xpuqlib's own files."""
    files = sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in SOURCES)
    code = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:DIGITS]
    return versions() | {"python": platform.python_version(), "xpuqlib": code}


def run_names(runs: dict[str, Job], folder: Path) -> dict[str, str]:
    """Name each run, by its identity: notebook, the parameters that vary, hash.

    A run that is in the folder already keeps its name there, which may show other parameters:
    the hash alone tells which run it is.

    Parameters
    ----------
    runs : dict of str to Job
        By identity.
    folder : pathlib.Path
        Where they are, or will be.

    Returns
    -------
    dict of str to str
        Stems of file names, safe on Linux and Windows, of at most 126 characters.
    """
    there = {path.stem.rpartition("-")[2]: path.stem for path in folder.glob("*.ipynb")}
    asked = [job.parameters for job in runs.values()]
    different: dict[str, set[str]] = {}
    for name in dict.fromkeys(name for values in asked for name in values):
        different[name] = {json.dumps(values.get(name), sort_keys=True) for values in asked}
    varying = [name for name, found in different.items() if len(found) > 1]
    return {key: there.get(key) or _name(key, job, varying) for key, job in runs.items()}


def _name(key: str, job: Job, varying: list[str]) -> str:
    pairs = (f"{k}={_safe(job.parameters[k])}" for k in varying if k in job.parameters)
    shown = ",".join(pairs)[: LONGEST["parameters"]].rstrip(",=")
    stem = _safe(job.notebook.stem, LONGEST["notebook"])
    return "-".join(part for part in (stem, shown, key) if part)


def _safe(value: Any, longest: int = LONGEST["value"]) -> str:
    """Keep what every file system takes; of a long value, such as a path, its end tells most."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", str(value)).strip("_")[-longest:]
