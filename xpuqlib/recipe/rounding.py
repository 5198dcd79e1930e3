"""Each quantizer's error against its own step: rounding, clipping, or codes that nothing uses."""

from __future__ import annotations

from collections.abc import Iterable

import pandas
import torch

from xpuqlib.errors import SensitivityError
from xpuqlib.recipe.switches import Switch, Switchable

__all__ = ["ROUNDING_ALONE", "quantizer_errors"]

ROUNDING_ALONE = 12**-0.5  # RMSE over step of an error that is uniform within one step: 0.29


class _Sums:
    """Sums over batches of what one quantizer does to its values."""

    def __init__(self, switch: Switch) -> None:
        self.switch, self.squares = switch, 0
        self.values, self.clipped, self.nonzero, self.zeroed = 0, 0, 0, 0
        self.largest = 0.0

    def add(self, x: torch.Tensor) -> None:
        x = x.detach()
        by_step = self._by_step(x)
        error = self._by_step(x - self.switch.quantize_dequantize(x))
        self.squares = self.squares + error.double().square().sum(1)
        self.values += x.numel()
        self.clipped += (error.abs() > 0.501).sum().item()
        self.nonzero += (by_step != 0).sum().item()
        self.zeroed += ((by_step != 0) & (error == by_step)).sum().item()
        self.largest = max(self.largest, by_step.abs().max().item())

    def _by_step(self, x: torch.Tensor) -> torch.Tensor:
        """Values in steps of the scale, ``[channels, values of a channel]``."""
        axis = self.switch.axis
        x = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
        return x / self.switch.scale.reshape(-1, 1).to(x.dtype)

    def row(self) -> dict[str, object]:
        each = self.values / len(self.switch.scale)
        return {
            "step": self.switch.scale.mean().item(),
            "RMSE / step": (self.squares / each).sqrt().mean().item(),
            "clipped": self.clipped / self.values,
            "becomes zero": self.zeroed / max(self.nonzero, 1),
            "largest / step": self.largest,
        }


def quantizer_errors(
    switchable: Switchable, batches: Iterable[torch.Tensor | tuple[torch.Tensor, ...]]
) -> pandas.DataFrame:
    """Measure what each quantizer does to its values, with all of them off.

    Parameters
    ----------
    switchable : Switchable
        Made from a calibrated model.
    batches : iterable of torch.Tensor, or of tuples of a model's inputs
        Of the captured shape.

    Returns
    -------
    pandas.DataFrame
        One row for each quantizer, in graph order, weights first. ``layer``: who reads it, several
        for a value with several readers. ``kind``, ``source``: as in `Switch`. ``step``: the
        scale, of weights its mean over channels. ``RMSE / step``: 0.29 (`ROUNDING_ALONE`) where
        rounding is all there is, more where values are clipped, less where most of them lie close
        to a code, such as zeros; of weights each channel by its own scale, then the mean.
        ``clipped``: share of values beyond the first or last code. ``becomes zero``: share of the
        values other than zero that get the code of zero: high where a few large values, or one
        channel, make the step too coarse for the rest. ``largest / step``: largest magnitude.

    Raises
    ------
    SensitivityError
        If there are no batches.
    """
    sums: dict[tuple, _Sums] = {}
    readers: dict[tuple, list[str]] = {}
    hooks = []
    for switch in switchable.switches:
        key = (switch.source, switch.scale.data_ptr())  # readers share what one observer saw
        readers.setdefault(key, []).append(switch.layer or switch.reader)
        if key not in sums:
            sums[key] = _Sums(switch)
            hooks.append(switch.register_forward_pre_hook(_keeper(sums[key])))
    try:
        with switchable.all_off():
            for batch in batches:
                switchable(*batch) if isinstance(batch, (tuple, list)) else switchable(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not any(summed.values for summed in sums.values()):
        raise SensitivityError("There are no batches to measure on.", "Pass at least one batch.")
    rows = [
        {
            "layer": ", ".join(dict.fromkeys(readers[key])),
            "kind": summed.switch.kind,
            "source": summed.switch.source,
            **summed.row(),
        }
        for key, summed in sums.items()
    ]
    return pandas.DataFrame(rows)


def _keeper(summed: _Sums):
    def keep(switch: Switch, inputs: tuple[torch.Tensor, ...]) -> None:
        if switch.kind != "weight" or not summed.values:  # a weight is the same in every batch
            summed.add(inputs[0])

    return keep
