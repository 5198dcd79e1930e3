"""PT2E quantization: one import home on both tracks, and the capture that the quantizer needs.

torch 2.8 keeps the PT2E names in ``torch.ao``, torch 2.11 and later in torchao; the lessons
import them from here. Importing this module also registers Inductor's int8 passes, which
moved to torchao in torch 2.14: without that import a saved program runs without int8.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import torch
import torch._dynamo.config
from torch import fx, nn

from xpuqlib.errors import CaptureError
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.recipe.dynamo import patient_dynamo
from xpuqlib.recipe.passes import keep_batch_norms

if pt2e_home() == "torchao":
    from torchao.quantization.pt2e import (
        HistogramObserver,
        MinMaxObserver,
        ObserverBase,
        PerChannelMinMaxObserver,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        _annotate_nodes_not_quantize as annotate_nodes_not_quantize,
    )
    from torchao.quantization.pt2e.quantizer.xpu_inductor_quantizer import (
        XPUInductorQuantizer,
        get_default_xpu_inductor_quantization_config,
    )
else:
    from torch.ao.quantization import (
        HistogramObserver,
        MinMaxObserver,
        ObserverBase,
        PerChannelMinMaxObserver,
    )
    from torch.ao.quantization.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torch.ao.quantization.quantizer import QuantizationSpec
    from torch.ao.quantization.quantizer.x86_inductor_quantizer import (
        _annotate_nodes_not_quantize as annotate_nodes_not_quantize,
    )
    from torch.ao.quantization.quantizer.xnnpack_quantizer_utils import QuantizationConfig
    from torch.ao.quantization.quantizer.xpu_inductor_quantizer import (
        XPUInductorQuantizer,
        get_default_xpu_inductor_quantization_config,
    )

__all__ = [
    "CaptureError",
    "HistogramObserver",
    "MinMaxObserver",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "QuantizationConfig",
    "QuantizationSpec",
    "XPUInductorQuantizer",
    "annotate_nodes_not_quantize",
    "capture",
    "convert_pt2e",
    "get_default_xpu_inductor_quantization_config",
    "prepare_pt2e",
]


def capture(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> fx.GraphModule:
    """Capture a model as an ATen graph that the XPU quantizer can annotate.

    ``torch.export.export(model, example_inputs, strict=True).module()`` under ``no_grad``:
    non-strict graphs lack what the quantizer looks for, so that it finds nothing on torch 2.8
    and 2.11 (pytorch/pytorch#160095) and raises on 2.14 and 2.15.
    PyTorch's fast path for attention is off meanwhile: it makes one operator of a whole
    ``nn.TransformerEncoderLayer``, with no linear layer in it. `keep_batch_norms` then keeps
    `prepare_pt2e` from a wrong fold.

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
        fix = "Move both to one device: model.to(device), x.to(device)."
        raise CaptureError(f"Model and inputs are on {', '.join(sorted(map(str, devices)))}.", fix)
    name = type(model).__name__
    try:
        with torch.no_grad():
            model(*example_inputs)
    except Exception as error:  # whatever a model raises; it is named and kept as the cause
        cause = f"{name} does not run on these inputs: {error}".splitlines()[0]
        fix = "Pass inputs of the shape and dtype that the model takes."
        raise CaptureError(cause, fix) from error
    try:
        # On a data-dependent branch torch prints the graph so far; the error names the line.
        quiet = contextlib.redirect_stderr(io.StringIO())
        with torch.no_grad(), patient_dynamo(), quiet, _without_fast_path():
            captured = torch.export.export(model, tuple(example_inputs), strict=True).module()
        keep_batch_norms(captured)
        return captured
    except Exception as error:  # export raises many kinds; each is named and kept as the cause
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise CaptureError(
            f"torch.export cannot capture {name}: {type(error).__name__}: {first_line}",
            "Remove control flow that depends on values, or capture only the part that has none "
            "(torch.export's documentation lists what it supports).",
        ) from error


@contextlib.contextmanager
def _without_fast_path() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
