"""PT2E quantization: one import home on both tracks, capture and calibrate.

torch 2.8 keeps the PT2E names in ``torch.ao``, torch 2.11 and later in torchao; the lessons
import them from here. Importing this module also registers Inductor's int8 passes, which
moved to torchao in torch 2.14: without that import a saved program runs without int8.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn
from tqdm import tqdm

from xpuqlib.environment import pt2e_home
from xpuqlib.errors import CalibrationError, CaptureError, XpuqWarning

if pt2e_home() == "torchao":
    from torchao.quantization.pt2e import HistogramObserver, ObserverBase, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    from torchao.quantization.pt2e.quantizer.xpu_inductor_quantizer import (
        XPUInductorQuantizer,
        get_default_xpu_inductor_quantization_config,
    )
else:
    from torch.ao.quantization import HistogramObserver, ObserverBase, PerChannelMinMaxObserver
    from torch.ao.quantization.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torch.ao.quantization.quantizer import QuantizationSpec
    from torch.ao.quantization.quantizer.xnnpack_quantizer_utils import QuantizationConfig
    from torch.ao.quantization.quantizer.xpu_inductor_quantizer import (
        XPUInductorQuantizer,
        get_default_xpu_inductor_quantization_config,
    )

__all__ = [
    "Calibration", "HistogramObserver", "PerChannelMinMaxObserver", "QuantizationConfig",
    "QuantizationSpec", "XPUInductorQuantizer", "calibrate", "capture", "convert_pt2e",
    "get_default_xpu_inductor_quantization_config", "observers", "prepare_pt2e",
]  # fmt: skip


def capture(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> fx.GraphModule:
    """Capture a model as an ATen graph that the XPU quantizer can annotate.

    ``torch.export.export(model, example_inputs, strict=True).module()`` under ``no_grad``:
    non-strict graphs lack what the quantizer looks for, so that it finds nothing on torch 2.8
    and 2.11 (pytorch/pytorch#160095) and raises on 2.14 and 2.15.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode, all of it on one device.
    example_inputs : tuple of torch.Tensor
        On the model's device. Their shapes, the batch size included, are fixed by the capture.

    Raises
    ------
    CaptureError
        If the model trains, if devices differ, or if export fails.
    """
    if isinstance(example_inputs, torch.Tensor):
        raise CaptureError("The example inputs are one tensor.", "Pass a tuple: (x,).")
    training = [name or "the model" for name, module in model.named_modules() if module.training]
    if training:
        cause = "is in training mode: dropout and batch statistics would be captured."
        raise CaptureError(f"{training[0]} {cause}", "Call model.eval() first.")
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    devices |= {value.device for value in example_inputs if isinstance(value, torch.Tensor)}
    if len(devices) > 1:
        mend = "Move both to one device: model.to(device), x.to(device)."
        raise CaptureError(f"Model and inputs are on {', '.join(sorted(map(str, devices)))}.", mend)
    name = type(model).__name__
    try:
        with torch.no_grad():
            model(*example_inputs)
    except Exception as error:  # whatever a model raises; it is named and kept as the cause
        cause = f"{name} does not run on these inputs: {error}".splitlines()[0]
        mend = "Pass inputs of the shape and dtype that the model takes."
        raise CaptureError(cause, mend) from error
    try:
        # On a data-dependent branch torch prints the graph so far; the error names the line.
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            return torch.export.export(model, tuple(example_inputs), strict=True).module()
    except Exception as error:  # export raises many kinds; each is named and kept as the cause
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise CaptureError(
            f"torch.export cannot capture {name}: {type(error).__name__}: {first_line}",
            "Remove control flow that depends on values, or capture only the part that has none "
            "(torch.export's documentation lists what it supports).",
        ) from error


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
    batches : iterable of torch.Tensor, or of tuples that begin with one (images, labels)
        Each of the shape and dtype that was captured.
    like : torch.Tensor, optional
        Evaluation images; a calibration set in another range than theirs gets a warning.

    Raises
    ------
    CalibrationError
        For no observers, no batches, a wrong shape or dtype, NaN or infinity.
    """
    if not observers(prepared):
        raise CalibrationError(
            "The prepared model has no observers: the quantizer matched nothing.",
            "Capture with xpuqlib.pt2e.capture (strict export), and call set_global(...) "
            "on the quantizer before prepare_pt2e.",
        )
    expected = next(n for n in prepared.graph.nodes if n.op == "placeholder").meta["val"]
    batches = list(batches) if not hasattr(batches, "__len__") else batches
    start, shown, total = time.perf_counter(), [], len(batches) * expected.shape[0]
    progress = tqdm(desc="calibrating", unit=" images", file=sys.stdout, total=total)
    with torch.no_grad(), progress:
        for number, batch in enumerate(batches, start=1):
            x = batch[0] if isinstance(batch, (tuple, list)) else batch
            _check_batch(x, expected, number)
            prepared(x)
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


def _check_batch(x: torch.Tensor, expected: torch.Tensor, number: int) -> None:
    pairs = zip(x.shape, expected.shape, strict=False)
    fits = all(have == want or not isinstance(want, int) for have, want in pairs)  # symbolic: any
    if x.dim() != expected.dim() or not fits:
        found = f"has shape {list(x.shape)}; {list(expected.shape)} was captured."
        mend = "Drop the last, partial batch (drop_last=True), or capture with this shape."
    elif x.dtype != expected.dtype:
        found = f"is {x.dtype}; {expected.dtype} was captured."
        mend = f"Convert it with x.to({expected.dtype}), with the training's normalization."
    elif x.device != expected.device:
        found = f"is on {x.device}; {expected.device} was captured."
        mend = f"Move it with x.to({str(expected.device)!r})."
    elif not torch.isfinite(x).all():
        found = "holds NaN or infinite values: an observer would keep them for ever."
        mend = "Find the bad image, leave it out, and prepare the model again."
    else:
        return
    raise CalibrationError(f"Batch {number} {found}", mend)


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
