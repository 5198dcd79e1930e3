"""What each layer's quantizers cost the whole model, measured by switching them off and on."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
from torch import nn
from tqdm import tqdm

from xpuqlib.errors import SensitivityError, explained
from xpuqlib.machine.files import write_whole
from xpuqlib.recipe.layers import refuse_unknown
from xpuqlib.recipe.switches import Switchable

__all__ = ["ALL_BUT", "ONLY", "SETTINGS", "Scores", "Sensitivity", "measure_sensitivity"]

ONLY, ALL_BUT = "only this layer", "all but this layer"
SETTINGS = {
    ONLY: lambda model, layer: model.only([layer]),
    "only its activation": lambda model, layer: model.only([layer], ["activation"]),
    "only its weight": lambda model, layer: model.only([layer], ["weight"]),
    ALL_BUT: lambda model, layer: model.all_but([layer]),
}
Scores = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Sensitivity:
    """Scores of a model with quantizers off and on.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for each layer, in graph order; columns ``(score, setting)``, so that
        ``table["accuracy"]`` has one column for each of `SETTINGS` that was measured: what is in
        int8. A row ``""`` stands for operators that belong to no layer, where there are some.
    floating, quantized : dict of str to float
        Each score with all quantizers off, and with all of them on.
    """

    table: pandas.DataFrame
    floating: dict[str, float]
    quantized: dict[str, float]

    def order(self, score: str, then: str | None = None) -> list[str]:
        """Names of the layers, the one that hurts most first.

        A layer hurts by what it loses alone and by what is gained without it. Either by itself is
        blind: where two layers spoil the result, leaving one of them out gains nothing.

        Parameters
        ----------
        score : str
            Which score tells how much a layer hurts.
        then : str, optional
            A second score, for layers that the first one does not tell apart; what is equal in
            both stays in graph order.

        Raises
        ------
        RecipeError
            For a score that was not measured.
        SensitivityError
            If the layers were not measured with `ONLY` and `ALL_BUT`.
        """
        by = [score] if then is None else [score, then]
        refuse_unknown(by, list(self.floating), what="score")
        harm = pandas.DataFrame({name: self._harm(name) for name in by})
        ranked = harm.sort_values(by, ascending=False, kind="stable")
        return [name for name in ranked.index if name]

    def _harm(self, score: str) -> pandas.Series:
        measured = self.table[score]
        missing = [setting for setting in (ONLY, ALL_BUT) if setting not in measured]
        if missing:
            cause = f"The layers were not measured with {' and '.join(map(repr, missing))}."
            fix = "Call measure_sensitivity with settings=(ONLY, ALL_BUT), or with all of them."
            raise SensitivityError(cause, fix)
        return measured[ALL_BUT] - measured[ONLY]

    def _repr_html_(self) -> str:
        ends = pandas.DataFrame({"nothing in int8": self.floating, "all in int8": self.quantized})
        return ends.to_html(float_format="{:.4g}".format) + self.table.to_html(
            float_format="{:.4g}".format
        )


def measure_sensitivity(
    switchable: Switchable,
    scores: Scores,
    *,
    path: Path | None = None,
    settings: Iterable[str] = tuple(SETTINGS),
) -> Sensitivity:
    """Score the model with only one layer in int8, and with all but one, for every layer.

    Parameters
    ----------
    switchable : Switchable
        Made from a calibrated model.
    scores : callable
        Takes the model as it is switched, gives its scores by name, higher is better. One call
        gives all of them, so that the images go through the model only once. Numbers may be of
        any kind that ``float`` takes, such as a tensor without dimensions.
    path : pathlib.Path, optional
        JSON file that keeps the scores after each layer; a second call goes on from there.
    settings : iterable of str
        Which of `SETTINGS` to measure. Each takes one call of `scores` for each layer.

    Raises
    ------
    SensitivityError
        If a score is NaN or no number, or the file belongs to another model, calibration or
        data.
    """
    settings = tuple(settings)
    refuse_unknown(settings, list(SETTINGS), what="setting")
    with switchable.all_off() as model:
        floating = checked_scores(scores(model), "in floating point")
    quantized = checked_scores(scores(switchable.model), "in int8")
    kept = _Kept(path, _fingerprint(switchable), {"floating": floating, "quantized": quantized})
    rows = [*switchable.layers, *[""] * any(not switch.layer for switch in switchable.switches)]
    progress = tqdm(desc="measuring layers", total=len(rows), unit="layer", file=sys.stdout)
    with progress:
        for layer in rows:
            done = kept.layers.setdefault(layer, {})
            missing = [setting for setting in settings if setting not in done]
            for setting in missing:
                with SETTINGS[setting](switchable, layer) as model:
                    where = f"with {setting} in int8 ({layer or 'operators without a layer'})"
                    done[setting] = checked_scores(scores(model), where)
            if missing:
                kept.write()
            progress.update()
    columns = {
        (score, setting): [kept.layers[layer][setting][score] for layer in rows]
        for score in floating
        for setting in settings
    }
    table = pandas.DataFrame(columns, index=pandas.Index(rows, name="layer"))
    return Sensitivity(table, floating, quantized)


class _Kept:
    """Scores in a file, which is whole at any time."""

    def __init__(self, path: Path | None, fingerprint: str, ends: dict[str, Any]) -> None:
        self.path, self.fingerprint, self.ends = path and Path(path), fingerprint, ends
        self.layers: dict[str, dict[str, dict[str, float]]] = {}
        if self.path and self.path.exists():
            self._read()

    def _read(self) -> None:
        fix = f"Delete {self.path}, or name another file for these scores."
        broken = (OSError, ValueError, KeyError, TypeError)
        with explained(broken, f"{self.path} holds no scores", fix, SensitivityError):
            found = json.loads(self.path.read_text(encoding="utf-8"))
            fingerprint, ends, layers = (found[k] for k in ("fingerprint", "ends", "layers"))
        if fingerprint != self.fingerprint:
            cause = f"{self.path} belongs to another model, or to another calibration."
            raise SensitivityError(cause, fix)
        if not _same(ends, self.ends):
            cause = f"{self.path} holds other scores, or scores on other data: {ends}, here"
            raise SensitivityError(f"{cause} {self.ends}.", fix)
        self.layers = layers

    def write(self) -> None:
        if not self.path:
            return
        content = {"fingerprint": self.fingerprint, "ends": self.ends, "layers": self.layers}
        fix = "Name a file in a folder that exists and that you may write."
        write_whole(self.path, json.dumps(content, indent=1), SensitivityError, fix)


def _same(ends: dict[str, Any], others: dict[str, Any]) -> bool:
    # Another number of threads may add in another order.
    return ends.keys() == others.keys() and all(
        ends[which].keys() == others[which].keys()
        and all(
            math.isclose(value, others[which][name], rel_tol=1e-3)
            for name, value in ends[which].items()
        )
        for which in ends
    )


def checked_scores(scores: dict[str, float], where: str) -> dict[str, float]:
    """Make plain numbers of the scores of a model; `where` says how it was switched."""
    fix = "Look at the model's outputs on these data, and at what the function returns."
    no_number = (TypeError, ValueError, RuntimeError)  # torch raises the last for many elements
    with explained(no_number, f"A score {where} is no number", fix, SensitivityError):
        numbers = {name: float(value) for name, value in scores.items()}
    bad = [name for name, value in numbers.items() if math.isnan(value)]
    if bad or not numbers:
        cause = f"The score {bad[0]!r} is NaN" if bad else "There is no score"
        raise SensitivityError(f"{cause} for the model {where}.", fix)
    return numbers


def _fingerprint(switchable: Switchable) -> str:
    """Tell models and calibrations apart: by all names, scales and zero points."""
    told = hashlib.sha256()
    for switch in switchable.switches:
        numbers = [switch.scale.tolist(), switch.zero_point.tolist()]
        told.update(json.dumps([switch.layer, switch.kind, switch.reader, *numbers]).encode())
    return told.hexdigest()
