"""The grid of a sweep: from the command line or from a YAML file."""

import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xpuqlib.errors import ParameterError, RunError, explained

__all__ = ["Grid", "read_grid"]

Values = dict[str, Any]


class Grid(BaseModel):
    """Every combination of the parameters, less what is excluded, and what is included beside.

    Attributes
    ----------
    parameters : dict of str to list
        Values by name; a single value may stand without its list.
    exclude : list of dict
        A combination is left out if it has all values of one of these.
    include : list of dict
        Further runs, as they stand.
    """

    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Any] = Field(default_factory=dict)
    exclude: list[Values] = Field(default_factory=list)
    include: list[Values] = Field(default_factory=list)

    def runs(self) -> list[Values]:
        """Parameters of each run, the last one changing first; a run named twice is there once.

        Raises
        ------
        ParameterError
            If no run is left, or something is excluded that was never there.
        """
        lists = {k: v if isinstance(v, list) else [v] for k, v in self.parameters.items()}
        if empty := [name for name, values in lists.items() if not values]:
            raise ParameterError(f"{empty[0]} has no value.", "Give it one, or leave it out.")
        products = itertools.product(*lists.values()) if lists or not self.include else []
        runs = [dict(zip(lists, values, strict=True)) for values in products]
        for excluded in self.exclude:
            left = [run for run in runs if not excluded.items() <= run.items()]
            if len(left) == len(runs):
                raise ParameterError(f"exclude: {excluded} fits no run.", "Fix it or take it out.")
            runs = left
        runs += self.include
        runs = [run for i, run in enumerate(runs) if run not in runs[:i]]
        if not runs:
            raise ParameterError("The grid is empty.", "Exclude less.")
        return runs


def read_grid(path: Path) -> Grid:
    """Read a grid from a YAML file with ``parameters``, ``exclude`` and ``include``.

    Raises
    ------
    RunError
        If the file cannot be read, or has another form.
    """
    unreadable = (OSError, UnicodeError, yaml.YAMLError)
    with explained(unreadable, f"{path} cannot be read", "Name a YAML file."):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    try:
        return Grid.model_validate(content)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "the file"
        form = "A grid has parameters (name: [values]), exclude and include (lists of name: value)."
        raise RunError(f"{path}: {where}: {detail['msg']}.", form) from error
