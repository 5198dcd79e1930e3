"""Calibration: real activations for the observers, and refusals of what would spoil them."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn
from tqdm import tqdm

from xpuqlib.errors import CalibrationError, XpuqWarning
from xpuqlib.recipe.pt2e import ObserverBase

__all__ = ["Calibration", "calibrate", "observers"]


def observers(prepared: nn.Module) -> dict[str, ObserverBase]:
    """Observers of a prepared model by name, in graph order; a shared one has several names."""
    modules = prepared.named_modules(remove_duplicate=False)
    found = {name: module for name, module in modules if isinstance(module, ObserverBase)}
    order = [node.target for node in prepared.graph.nodes if node.op == "call_module"]
    return {name: found[name] for name in order if name in found}


@dataclass(frozen=True)
class Calibration:
    """What the observers were shown: counts, seconds, and the range of the values."""

    batches: int
    images: int
    seconds: float
    minimum: float
    maximum: float


def calibrate(
    prepared: fx.GraphModule,
    batches: Iterable[torch.Tensor | tuple[torch.Tensor, ...]],
    like: torch.Tensor | None = None,
) -> Calibration:
    """Run batches through a prepared model so that its observers see real activations.

    Parameters
    ----------
    prepared : torch.fx.GraphModule
        From ``prepare_pt2e``.
    batches : iterable of torch.Tensor, or of tuples of them
        As many as the model has inputs, each of the shape and dtype that was captured; what
        follows in a tuple, such as labels, is left alone.
    like : torch.Tensor, optional
        Evaluation images; a calibration set in another range than theirs gets a warning. With
        several inputs this, and what is returned, is about the first one.

    Raises
    ------
    CalibrationError
        For no observers, no batches, a wrong shape or dtype, NaN or infinity.
    """
    _require_observers(prepared)
    expected = [node.meta["val"] for node in prepared.graph.find_nodes(op="placeholder")]
    batches = list(batches) if not hasattr(batches, "__len__") else batches
    start, shown, rows = time.perf_counter(), [], expected[0].shape[0]
    total = len(batches) * rows if isinstance(rows, int) else None  # symbolic: any number
    progress = tqdm(desc="calibrating", unit=" images", file=sys.stdout, total=total)
    with torch.no_grad(), progress:
        for number, batch in enumerate(batches, start=1):
            inputs = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
            inputs = inputs[: len(expected)]
            _check_batch(inputs, expected, number)
            prepared(*inputs)
            x = inputs[0]
            shown.append((len(x), x.amin().item(), x.amax().item(), x.float().std().item()))
            progress.update(len(x))
    if not shown:
        raise CalibrationError("There are no calibration batches.", "Pass at least one batch.")
    images, low, high, deviations = zip(*shown, strict=True)
    seconds = time.perf_counter() - start
    result = Calibration(len(shown), sum(images), seconds, min(low), max(high))
    if like is not None:
        _warn_if_unlike(result, sum(deviations) / len(shown), like)
    return result


def _require_observers(prepared: fx.GraphModule) -> None:
    if observers(prepared):
        return
    called = {getattr(node.target, "_opname", "") for node in prepared.graph.nodes}
    if not called & {"conv1d", "conv2d", "linear"}:
        raise CalibrationError(
            "The model has no layer that the XPU quantizer knows: conv1d, conv2d or linear.",
            "Quantize a model that has one; leave this one in floating point.",
        )
    raise CalibrationError(
        "The prepared model has no observers: the quantizer matched nothing.",
        "Capture with xpuqlib.recipe.capture (strict export), and call set_global(...) "
        "on the quantizer before prepare_pt2e.",
    )


def _check_batch(
    inputs: tuple[torch.Tensor, ...], expected: list[torch.Tensor], number: int
) -> None:
    if len(inputs) < len(expected):
        cause = f"Batch {number} has {len(inputs)} inputs; {len(expected)} were captured."
        raise CalibrationError(cause, "Pass a tuple of all inputs for each batch.")
    for x, captured in zip(inputs, expected, strict=True):
        _check_input(x, captured, number)


def _check_input(x: torch.Tensor, expected: torch.Tensor, number: int) -> None:
    pairs = zip(x.shape, expected.shape, strict=False)
    fits = all(have == want or not isinstance(want, int) for have, want in pairs)  # symbolic: any
    if x.dim() != expected.dim() or not fits:
        found = f"has shape {list(x.shape)}; {list(expected.shape)} was captured."
        fix = "Drop the last, partial batch (drop_last=True), or capture with this shape."
    elif x.dtype != expected.dtype:
        found = f"is {x.dtype}; {expected.dtype} was captured."
        fix = f"Convert it with x.to({expected.dtype}), with the training's normalization."
    elif x.device != expected.device:
        found = f"is on {x.device}; {expected.device} was captured."
        fix = f"Move it with x.to({str(expected.device)!r})."
    elif not torch.isfinite(x).all():
        found = "holds NaN or infinite values: an observer would keep them for ever."
        fix = "Find the bad image, leave it out, and prepare the model again."
    else:
        return
    raise CalibrationError(f"Batch {number} {found}", fix)


def _warn_if_unlike(seen: Calibration, deviation: float, like: torch.Tensor) -> None:
    low, high = like.amin().item(), like.amax().item()
    usual = like.float().std().item()
    outside = max(abs(seen.minimum - low), abs(seen.maximum - high)) / max(high - low, 1e-12)
    # Pixels in 0…1 for -1…1 are half of the range outside.
    if outside > 0.4 or not 0.5 < deviation / max(usual, 1e-12) < 2:
        said = (
            f"Calibration images lie in [{seen.minimum:.3g}, {seen.maximum:.3g}] with deviation "
            f"{deviation:.3g}, evaluation images in [{low:.3g}, {high:.3g}] with {usual:.3g}. "
            "Use the same preprocessing for both."
        )
        warnings.warn(said, XpuqWarning, stacklevel=3)
