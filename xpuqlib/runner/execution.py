"""Find notebooks, check what is asked of them, and execute them one after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor

from xpuqlib.errors import RunError, TrackError
from xpuqlib.machine.environment import IPEX, ipex_mismatch
from xpuqlib.runner.kernel import Task, run_task
from xpuqlib.runner.language import read_catalogue, translate_notebook
from xpuqlib.runner.parameters import check_parameters
from xpuqlib.runner.results import Result, check_folder, store

__all__ = ["Job", "execute", "find_notebooks", "plan"]


@dataclass(frozen=True)
class Job:
    """A notebook, its checked parameters, and the catalogues of a language for its prose."""

    notebook: Path
    parameters: dict[str, Any]
    catalogues: Path | None = None

    def task(self, **fields: Any) -> Task:
        """Make the task of this job, named as its notebook if no name is among the fields."""
        stem = self.notebook.stem
        notebook = nbformat.read(self.notebook, as_version=4)
        ClearOutputPreprocessor().preprocess(notebook, {})
        if self.catalogues:
            translate_notebook(notebook, read_catalogue(self.catalogues, f"lessons/{stem}"))
        fields = {"name": stem, "lesson": stem} | fields
        return Task(notebook=nbformat.writes(notebook), parameters=self.parameters, **fields)


def find_notebooks(names: list[str], folder: Path = Path("notebooks")) -> list[Path]:
    """Notebooks by path, or by the start of their name in `folder`; all of them for no names.

    Raises
    ------
    RunError
        If a name matches nothing, or more than one notebook.
    """
    everything = sorted(folder.glob("*.ipynb"))
    if not names and not everything:
        raise RunError(f"There are no notebooks in {folder}/.", "Run from the project's folder.")
    found = []
    for name in names:
        matches = [path for path in everything if path.name.startswith(name)]
        matches = [Path(name)] if Path(name).is_file() else matches
        if len(matches) != 1:
            known = ", ".join(path.stem for path in everything) or "none here"
            raise RunError(f"{name!r} matches {len(matches)} notebooks.", f"Name one of: {known}.")
        found += matches
    if len({path.stem for path in found}) < len(found):
        raise RunError("A notebook is named twice.", "Name each once: results go by its name.")
    return found or everything


def plan(notebooks: list[Path], *grid: dict[str, Any], catalogues: Path | None = None) -> list[Job]:
    """Check every set of parameters with every notebook, before the first kernel starts.

    Raises
    ------
    ParameterError
        If a notebook does not have a parameter, or not with this value.
    TrackError
        If IPEX does not belong to torch: importing it could end every kernel without a word.
    """
    if mismatch := ipex_mismatch():
        raise TrackError(f"{mismatch}.", f"pip uninstall {IPEX}, or see `xpuq doctor`.")
    checked = [(path, check_parameters(path, values)) for path in notebooks for values in grid]
    return [Job(path, values, catalogues) for path, values in checked]


def execute(job: Job, out: Path) -> Result:
    """Execute one notebook in its own kernel; its failure is a result, not an exception.

    Parameters
    ----------
    job : Job
    out : pathlib.Path
        Folder that gets the executed notebook and its HTML page; a file appears there under its
        own name only when it is complete.

    Raises
    ------
    RunError
        If the folder cannot be written.
    """
    executed = out / job.notebook.name
    if executed.resolve() == job.notebook.resolve():
        raise RunError(f"{executed} would be overwritten by its result.", "Choose another --out.")
    check_folder(out)
    return store(run_task(job.task(), progress_bar=True), out)
