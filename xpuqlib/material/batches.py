"""Batches for calibration and evaluation: images, generated text, or a person's own factory."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xpuqlib.errors import DataError, XpuqWarning
from xpuqlib.material.data import load_data
from xpuqlib.material.factory import call_factory, is_factory
from xpuqlib.material.text import reviews

__all__ = ["Batches", "load_batches"]

Inputs = tuple[torch.Tensor, ...]
Batch = tuple[Inputs, "torch.Tensor | None"]
MOST_EVALUATED = 1000  # batches, since a factory may give them without end
FORM = "A batch is a tensor, a tuple of tensors, or (inputs, labels); see load_batches."


@dataclass(frozen=True)
class Batches:
    """What a model is calibrated and evaluated on, whatever its inputs are.

    Attributes
    ----------
    calibration : tuple of tuple of torch.Tensor
        The model's inputs, batch by batch, all of one shape, on the device.
    evaluation : tuple of tuple of torch.Tensor
        Other batches, on the CPU; the last ones may have fewer rows.
    labels : torch.Tensor or None
        int64, ``[n]``, for all rows of `evaluation`; None where there is no truth.
    classes : int
        Number of classes; 0 without labels, or where a factory did not say it.
    """

    calibration: tuple[Inputs, ...]
    evaluation: tuple[Inputs, ...]
    labels: torch.Tensor | None
    classes: int = 0

    @property
    def example(self) -> Inputs:
        """The first calibration batch: the example inputs for export."""
        return self.calibration[0]

    @property
    def batch_size(self) -> int:
        """Rows of a calibration batch."""
        return len(self.example[0])

    def labels_for(self, outputs: int) -> torch.Tensor | None:
        """Labels, if a model with this many outputs can be right about them at all."""
        if self.labels is None or self.classes not in (0, outputs):
            return None
        return self.labels if self.labels.max() < outputs else None


def load_batches(
    source: str = "digits",
    *,
    batch_size: int = 32,
    image_size: int = 32,
    calibration_batches: int = 8,
    weights: str = "digits",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Batches:
    """Load batches from a factory, or images as `load_data` does.

    Parameters
    ----------
    source : str
        ``digits``, ``synthetic``, a folder of images, ``text`` (tokens of `reviews`), or a
        factory: ``path/to/file.py:function`` or ``package.module:function``, a function without
        arguments that returns an iterable of batches, such as a DataLoader. **Its code is
        executed.** Preprocessing, normalization and the size of a batch are the factory's own;
        its batches are kept in memory: those for calibration, and 1000 for evaluation at most.
        More are left out, with a warning.

        A batch is one of

        - ``x``: one input, no labels;
        - ``(x, labels)``: labels are whole numbers in one dimension, or None;
        - ``(x, y)``, ``(x, y, z)`` …: several inputs, no labels;
        - ``((x, y), labels)``: several inputs with labels; ``((x, y),)`` without.

        So two inputs of which the second is whole numbers in one dimension are written with the
        inner parentheses. Lists count as tuples. The first dimension of every input is the batch.
    batch_size, image_size, weights, seed
        As for `load_data`; a factory does not get them, and text only `batch_size` and `seed`.
    calibration_batches : int
        The first batches, for calibration; the rest is for evaluation.
    device : torch.device or str
        Where the calibration batches are put.

    Raises
    ------
    DataError
        If the code cannot be found or raises, if there are too few batches, or if they differ in
        structure, shape or dtype, or hold NaN.
    """
    if is_factory(source) and not Path(source).is_dir():
        return _from_factory(source, calibration_batches, device)
    if source == "text":
        return _from_text(batch_size, calibration_batches, device, seed)
    images = load_data(
        source,
        batch_size=batch_size,
        image_size=image_size,
        calibration_batches=calibration_batches,
        weights=weights,
        device=device,
        seed=seed,
    )
    evaluation = images.images.to(memory_format=torch.channels_last).split(batch_size)
    return Batches(_alone(images.calibration), _alone(evaluation), images.labels, images.classes)


def _from_text(batch_size: int, calibrating: int, device: torch.device | str, seed: int) -> Batches:
    pool, _, tokens, labels = reviews()
    needed = batch_size * calibrating
    generator = torch.Generator().manual_seed(seed)
    # More reviews than the pool has are taken a second time.
    order = torch.cat([torch.randperm(len(pool), generator=generator)] * -(-needed // len(pool)))
    calibration = pool[order[:needed]].to(device).split(batch_size)
    return Batches(_alone(calibration), _alone(tokens.split(batch_size)), labels, classes=2)


def _alone(batches: Iterable[torch.Tensor]) -> tuple[Inputs, ...]:
    return tuple((batch,) for batch in batches)


def _from_factory(source: str, calibrating: int, device: torch.device | str) -> Batches:
    batches = [_split(batch, n) for n, batch in enumerate(_taken(source, calibrating), start=1)]
    if len(batches) <= calibrating:
        cause = f"{source} gives {len(batches)} batches; calibration alone takes {calibrating}."
        raise DataError(cause, "Lower calibration_batches, or give more batches.")
    first = batches[0][0]
    for number, (inputs, _) in enumerate(batches, start=1):
        _compare(number, inputs, first, whole=number <= calibrating)
    evaluation, labels = zip(*batches[calibrating:], strict=True)
    if len({label is None for label in labels}) > 1:
        raise DataError(f"Only some batches of {source} have labels.", "Give all of them, or none.")
    joined = None if labels[0] is None else torch.cat(labels).to("cpu", torch.int64)
    calibration = tuple(
        tuple(_laid_out(x).to(device) for x in inputs) for inputs, _ in batches[:calibrating]
    )
    evaluation = tuple(tuple(_laid_out(x).cpu() for x in inputs) for inputs in evaluation)
    return Batches(calibration, evaluation, joined)


def _taken(source: str, calibrating: int) -> list[Any]:
    given = call_factory(source, DataError)
    if isinstance(given, torch.Tensor) or not isinstance(given, Iterable):
        cause = f"{source} returns {type(given).__name__}, not an iterable of batches."
        raise DataError(cause, "Return a list of batches, a generator or a DataLoader.")
    most = calibrating + MOST_EVALUATED
    try:
        taken = list(itertools.islice(given, most + 1))  # one more tells whether there are more
    except Exception as error:  # whatever the code raises; it is named and kept as the cause
        cause = f"{source} raised {type(error).__name__} while it gave its batches: {error}"
        raise DataError(cause, "Try it alone: go through all that it returns.") from error
    if len(taken) > most:
        said = f"{source} gives more than {most} batches: the first {most} are taken, no more."
        warnings.warn(said, XpuqWarning, stacklevel=4)
    return taken[:most]


def _split(batch: Any, number: int) -> Batch:
    """Take a batch apart, as `load_batches` says: inputs and labels."""
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    labels = None
    if len(parts) == 2 and _are_labels(parts[1]):
        inputs, labels = parts
    elif len(parts) == 1:
        [inputs] = parts
    else:
        inputs = parts
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        found = ", ".join(type(x).__name__ for x in inputs) or "nothing"
        raise DataError(f"Batch {number} holds {found}, not tensors alone.", FORM)
    rows = {x.shape[0] if x.dim() else None for x in inputs}
    rows |= {len(labels)} if labels is not None else set()
    if len(rows) > 1 or not rows.pop():
        cause = f"Batch {number}: inputs and labels do not have the same number of rows."
        raise DataError(cause, "Begin every tensor with the batch dimension, at least one row.")
    if not all(torch.isfinite(x).all() for x in inputs):
        raise DataError(f"Batch {number} holds NaN or infinite values.", "Leave them out.")
    return inputs, labels


def _are_labels(part: Any) -> bool:
    if part is None:
        return True
    kinds = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return isinstance(part, torch.Tensor) and part.dim() == 1 and part.dtype in kinds


def _compare(number: int, inputs: Inputs, first: Inputs, whole: bool) -> None:
    """Refuse a batch that differs from the first; after calibration it may have fewer rows."""
    kinds = [[(x.dtype, x.shape[1:]) for x in batch] for batch in (inputs, first)]
    fewer = len(inputs[0]) < len(first[0]) and not whole
    if kinds[0] == kinds[1] and (fewer or len(inputs[0]) == len(first[0])):
        return
    shown = [", ".join(f"{list(x.shape)} {x.dtype}" for x in batch) for batch in (inputs, first)]
    raise DataError(
        f"Batch {number} holds {shown[0]}, the first one {shown[1]}.",
        "Give all batches one shape (drop_last=True); only after calibration may rows be missing.",
    )


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    # Convolutions in int8 want channels last, and compiled models keep to the strides they saw.
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
