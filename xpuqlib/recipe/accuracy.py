"""The search for accuracy: which layers have to stay in floating point, and as few as possible."""

from __future__ import annotations

import copy
import html
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas
from torch import fx, nn
from tqdm import tqdm

from xpuqlib.errors import SensitivityError, XpuqWarning, explained
from xpuqlib.recipe.configuration import make_quantizer
from xpuqlib.recipe.layers import refuse_unknown
from xpuqlib.recipe.pt2e import QuantizationConfig, convert_pt2e, prepare_pt2e
from xpuqlib.recipe.sensitivity import (
    ALL_BUT,
    ONLY,
    Scores,
    checked_scores,
    measure_sensitivity,
)
from xpuqlib.recipe.switches import Switchable

__all__ = ["KeptAccuracy", "accuracy_curve", "keep_accuracy"]

FEW_IMAGES = 5
ROUNDING = 1e-9  # 0.98 - 0.97 is a little more than 0.01


@dataclass(frozen=True, repr=False)
class KeptAccuracy:
    """What the search ended with.

    Attributes
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``, with `kept` in floating point.
    kept, layers : tuple of str
        Layers in floating point, in graph order, of all that were quantized at first.
    history : pandas.DataFrame
        One row for each measurement: ``step``, ``layer``, ``layers kept``, ``metric``. Only the
        steps ``converted`` come from a converted graph, the others from switching.
    metric_fp32, metric_int8, metric : float
        In floating point, with all layers in int8, and of `converted`.
    max_drop : float
        What was allowed.
    images : int or None
        Size of the validation set.
    """

    converted: fx.GraphModule
    kept: tuple[str, ...]
    layers: tuple[str, ...]
    history: pandas.DataFrame
    metric_fp32: float
    metric_int8: float
    metric: float
    max_drop: float
    images: int | None

    @property
    def sentence(self) -> str:
        """Say it in one sentence: layers kept, accuracy before and after."""
        return (
            f"{len(self.kept)} of {len(self.layers)} layers kept in floating point: "
            f"accuracy {self.metric_fp32 * 100:.1f} → {self.metric * 100:.1f} %"
        )

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        kept = ", ".join(map(html.escape, self.kept)) or "none"
        allowed = f"A drop of {self.max_drop * 100:g} points was allowed"
        if self.images:
            allowed += f", {self.max_drop * self.images:.1f} of {self.images} images"
        return (
            f"<p><b>{self.sentence}</b> (all in int8: {self.metric_int8 * 100:.1f} %). {allowed}."
            f"</p><p>In floating point: {kept}.</p>{self.history.to_html(index=False)}"
        )


def keep_accuracy(
    captured: fx.GraphModule,
    calibrate: Callable[[fx.GraphModule], object],
    metric: Callable[[nn.Module], float],
    *,
    configuration: QuantizationConfig | None = None,
    max_drop: float = 0.01,
    order: Iterable[str] | None = None,
    scores_path: Path | None = None,
    images: int | None = None,
) -> KeptAccuracy:
    """Quantize, and leave as few layers in floating point as the accuracy needs.

    Layers are ranked by what they cost, then one after the other is left in floating point until
    the metric is back, then each is tried in int8 once more. All this is measured by switching
    quantizers of one calibrated model. Then the model is prepared, calibrated and converted with
    these exceptions; where the converted graph still misses, the next layer is left out.

    Parameters
    ----------
    captured : torch.fx.GraphModule
        From `xpuqlib.recipe.capture`. Not changed.
    calibrate : callable
        Runs the prepared model that it is given over calibration data.
    metric : callable
        Gives the accuracy of the model that it is given, 0…1, higher is better.
    configuration : QuantizationConfig, optional
        By default upstream's.
    max_drop : float
        How far below floating point the metric may end, 0.01 for one point.
    order : iterable of str, optional
        Layers, the one to leave out first at the front, as from `Sensitivity.order`. By default
        they are ranked here, by the metric.
    scores_path : pathlib.Path, optional
        Keeps what the ranking measured, as for `measure_sensitivity`.
    images : int, optional
        Size of the validation set, to tell how many images `max_drop` is.

    Raises
    ------
    RecipeError
        For a name in `order` that is not a quantized layer, with the nearest.
    SensitivityError
        If the metric is no number in 0…1, or cannot be kept with at least one layer in int8.
    """
    if images is not None and max_drop * images < FEW_IMAGES:
        said = (
            f"A drop of {max_drop * 100:g} points is {max_drop * images:.1f} of {images} images: "
            f"chance decides. Take {math.ceil(FEW_IMAGES / max_drop)} images or more."
        )
        warnings.warn(said, XpuqWarning, stacklevel=2)
    search = _Search(captured, calibrate, metric, configuration)
    prepared = search.prepare([])
    search.switchable = switchable = Switchable(prepared)
    given = list(order or ())
    refuse_unknown(given, switchable.layers, what="layer of this model")
    floating, quantized = search.ends()
    needed = floating - max_drop - ROUNDING
    kept: list[str] = []
    if quantized >= needed:
        order = []
    else:
        search.require(needed)
        order = given or search.rank(scores_path)
        order += [name for name in switchable.layers if name not in order]
        kept = search.add_until(needed, order)
        kept = search.give_back(needed, kept)
    spare = [name for name in order if name not in kept]
    converted, reached = search.convert(kept, needed, None if kept else prepared)
    while reached < needed and spare:  # leaving a layer out also undoes fusions around it
        kept.append(spare.pop(0))
        converted, reached = search.convert(kept, needed)
    if reached < needed:
        raise _cannot(f"the converted graph reaches {reached:.4f}", needed)
    in_order = tuple(name for name in switchable.layers if name in kept)
    history = pandas.DataFrame(search.history)
    ends = (floating, quantized, reached)
    return KeptAccuracy(converted, in_order, switchable.layers, history, *ends, max_drop, images)


def accuracy_curve(switchable: Switchable, order: list[str], scores: Scores) -> pandas.DataFrame:
    """Score the model with the first 0, 1, 2, … layers of an order in floating point.

    Parameters
    ----------
    switchable : Switchable
        Made from a calibrated model.
    order : list of str
        Layers, the one to leave out first at the front, as from `Sensitivity.order`.
    scores : callable
        As for `measure_sensitivity`.

    Returns
    -------
    pandas.DataFrame
        Index ``layers kept``, from 0 to all of `order`; ``layer``, the one that was left out last,
        and a column for each score.
    """
    rows = []
    counts = range(len(order) + 1)
    for count in tqdm(counts, desc="leaving layers out", unit="layer", file=sys.stdout):
        with switchable.all_but(order[:count]) as model:
            numbers = checked_scores(scores(model), f"with {count} layers in floating point")
            rows.append({"layer": order[count - 1] if count else "", **numbers})
    return pandas.DataFrame(rows).rename_axis("layers kept")


class _Search:
    """One search: the model, the callables, and all that was measured."""

    switchable: Switchable

    def __init__(self, captured, calibrate, metric, configuration) -> None:
        self.captured, self.calibrate, self.metric = captured, calibrate, metric
        self.configuration = configuration
        self.history: list[dict[str, object]] = []

    def prepare(self, kept: list[str]) -> fx.GraphModule:
        quantizer = make_quantizer(self.captured, self.configuration, kept)
        # A copy: prepare_pt2e also changes the graph that it is given.
        prepared = prepare_pt2e(copy.deepcopy(self.captured), quantizer)
        self.calibrate(prepared)
        return prepared

    def note(self, step: str, layer: str, kept: int, value: float) -> float:
        row = {"step": step, "layer": layer, "layers kept": kept, "metric": value}
        self.history.append(row)
        return value

    def score(self, model: nn.Module) -> float:
        fix = "Let it return one number, 0…1."
        no_number = (TypeError, ValueError, RuntimeError)  # the last: a tensor of many elements
        value = self.metric(model)
        with explained(no_number, "The metric gave no number", fix, SensitivityError):
            return float(value)

    def ends(self) -> tuple[float, float]:
        count = len(self.switchable.layers)
        with self.switchable.all_off() as model:
            floating = self.note("floating point", "", count, self.score(model))
        quantized = self.note("all in int8", "", 0, self.score(self.switchable.model))
        for value in (floating, quantized):
            if not 0 <= value <= 1:  # nor is NaN
                fix = "Let it return a share of 1, and check the model's outputs for NaN."
                raise SensitivityError(f"The metric gave {value}, not a number in 0…1.", fix)
        return floating, quantized

    def measure(self, step: str, layer: str, kept: list[str]) -> float:
        with self.switchable.all_but(kept) as model:
            return self.note(step, layer, len(kept), self.score(model))

    def require(self, needed: float) -> None:
        reached = self.measure("all left out", "", list(self.switchable.layers))
        if reached < needed:
            switches = self.switchable.switches
            loose = ", ".join(dict.fromkeys(s.reader for s in switches if not s.layer))
            but = f", but {loose} in int8," if loose else ""  # no name leaves these out
            raise _cannot(f"with all layers in floating point{but} it is {reached:.4f}", needed)

    def rank(self, path: Path | None) -> list[str]:
        def scores(model: nn.Module) -> dict[str, float]:
            return {"metric": self.score(model)}

        settings = (ONLY, ALL_BUT)
        measured = measure_sensitivity(self.switchable, scores, path=path, settings=settings)
        return measured.order("metric")

    def add_until(self, needed: float, order: list[str]) -> list[str]:
        kept: list[str] = []
        progress = tqdm(order, desc="leaving layers out", unit="layer", file=sys.stdout)
        for name in progress:
            kept.append(name)
            reached = self.measure("left out", name, kept)
            progress.set_postfix(metric=f"{reached:.4f}")
            if reached >= needed:
                break
        progress.close()
        return kept

    def give_back(self, needed: float, kept: list[str]) -> list[str]:
        tried = kept[-2::-1]  # the last one was needed; of the others the least sensitive first
        for name in tqdm(tried, desc="giving layers back", unit="layer", file=sys.stdout):
            fewer = [other for other in kept if other != name]
            if self.measure("given back", name, fewer) >= needed:
                kept = fewer
        return kept

    def convert(
        self, kept: list[str], needed: float, prepared: fx.GraphModule | None = None
    ) -> tuple[fx.GraphModule, float]:
        if kept and len(kept) == len(self.switchable.layers):
            raise _cannot("all layers would stay in floating point", needed)
        converted = convert_pt2e(prepared or self.prepare(kept))
        last = kept[-1] if kept else ""
        return converted, self.note("converted", last, len(kept), self.score(converted))


def _cannot(what: str, needed: float) -> SensitivityError:
    fix = "Allow a larger max_drop, calibrate on more images, or try another configuration."
    return SensitivityError(f"The metric must be {needed:.4f}, but {what}.", fix)
