"""Lower a converted model through Inductor, as each device needs it."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch._functorch.config
import torch._inductor.config
from torch import fx, nn

from xpuqlib.errors import LoweringError, XpuqWarning
from xpuqlib.machine.device import MODES, cpu_has_bf16, cpu_has_vnni
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.recipe.compilation import Compilation, observe_compilation
from xpuqlib.recipe.dynamo import patient_dynamo
from xpuqlib.recipe.passes import (
    fold_changed_biases,
    keep_cats_floating,
    keep_max_pools_floating,
    quantize_above_max_pool,
    signed_to_unsigned,
)

__all__ = ["Lowered", "LoweringError", "lower", "rewrite_for"]


class _OtherSettings(BaseException):
    """Dynamo is about to compile, and not with the settings that this model was lowered with.

    An Exception would be swallowed under ``suppress_errors``.
    """


@functools.cache  # Dynamo compares backends: what is equal must stay equal
def _inductor(freezing: bool) -> Callable[..., Any]:
    """Give Inductor as a backend that compiles with this freezing, aloud, and refuses any other.

    Freezing is part of no guard, and Dynamo asks for it before it calls its backend, so that the
    backend itself cannot switch it on.
    """

    def inductor(graph: fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        # Under suppress_errors Dynamo would swallow a failure, and run floating point in silence.
        if torch._inductor.config.freezing != freezing or torch._dynamo.config.suppress_errors:
            raise _OtherSettings
        return torch._inductor.compile(graph, inputs)

    return inductor


@dataclass(frozen=True)
class Lowered:
    """A compiled model for one input shape.

    Every strict export makes Dynamo forget what it compiled. The next call then compiles once
    more, with the same freezing and autocast, and so to the same kernels; where that fails, the
    call raises, whatever Dynamo's ``suppress_errors`` says. Nothing is configured at a call that
    compiles nothing, which would take 0.1 to 0.5 ms of it.

    Attributes
    ----------
    compilation : Compilation
    device : torch.device
    mode : str
        ``executed`` (int8 kernels on xpu), ``rehearsed`` (int8 kernels on cpu) or ``reference``
        (no int8 kernel ran).
    notes : tuple of str
        Which exact rewrites were done, and what this device does differently than an XPU.
    bf16_autocast : bool
        Whether it was compiled, and so runs, under autocast to bfloat16; an autocast around the
        call changes nothing.
    freezing, int8_max_pool : bool, optional
        As they were asked for. On cuda freezing is off all the same, as `compilation` says.
    """

    compiled: Callable[..., torch.Tensor]
    compilation: Compilation
    signature: list[tuple]
    device: torch.device
    mode: str
    notes: tuple[str, ...]
    bf16_autocast: bool = False
    freezing: bool = True
    int8_max_pool: bool | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run without gradients; LoweringError for another shape, dtype or device."""
        if _signature(inputs) != self.signature:
            called = _describe(_signature(inputs))
            cause = f"Lowered for {_describe(self.signature)}, called with {called}."
            fix = "Convert the input, pad the last batch, or capture, convert and lower again."
            raise LoweringError(cause, fix)
        with _precision(self.device, self.bf16_autocast):
            try:
                return self.compiled(*inputs)
            except _OtherSettings:
                with _settings(self.compilation.freezing):
                    return self.compiled(*inputs)


@contextlib.contextmanager
def _precision(device: torch.device, bf16_autocast: bool) -> Iterator[None]:
    # Gradients and autocast are guards: other ones would compile once more, in other precision.
    with contextlib.ExitStack() as stack:
        if torch.is_grad_enabled():  # entering them takes its time
            stack.enter_context(torch.no_grad())
        if bf16_autocast or torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=bf16_autocast))
        yield


@contextlib.contextmanager
def _settings(freezing: bool) -> Iterator[None]:
    with (
        torch._inductor.config.patch(freezing=freezing),
        torch._dynamo.config.patch(suppress_errors=False),
    ):
        yield


def lower(
    converted: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    freezing: bool = True,
    int8_max_pool: bool | None = None,
    bf16_autocast: bool = False,
) -> Lowered:
    """Compile a model with ``torch.compile`` and freezing, as the device needs it.

    ======  =========================================================================
    xpu     exact rewrites of a copy (passes.py), freezing; oneDNN int8 kernels on the GPU
    cpu     more of these rewrites, then the same kernels on the CPU
    cuda    no freezing: oneDNN has no CUDA kernels, so this is a floating-point reference
    ======  =========================================================================

    Parameters
    ----------
    converted : torch.nn.Module
        From ``convert_pt2e``, or a floating-point model as the baseline. Not changed.
    example_inputs : tuple of torch.Tensor
        Inputs of the one shape that the result accepts; their device decides the lowering.
    freezing : bool
        Inductor replaces parameters by constants; without it no int8 kernel is generated.
    int8_max_pool : bool, optional
        Quantize before a max-pool instead of after it, which changes no output bit. By default on
        a CPU only: for XPU torch-xpu-ops has the kernel, too, but nobody has tried it here.
    bf16_autocast : bool
        Compile and run under autocast to bfloat16: int8-mixed-bf16 for a converted model.

    Raises
    ------
    LoweringError
        If the graph cannot be rewritten exactly, does not compile or fails at its first call, or
        if `int8_max_pool` is asked for where torch has no kernel for it.
    """
    if pt2e_home() == "torchao":
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    device = example_inputs[0].device
    notes, asked = [], freezing
    quantized = isinstance(converted, fx.GraphModule) and "quantized_decomposed" in converted.code
    if device.type == "cuda":
        freezing = False
        notes.append("cuda: no oneDNN kernels, compiled without freezing as a reference")
    kernel, key = "quantized::max_pool2d", device.type.upper()  # what Inductor will call
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(kernel, key)
    if int8_max_pool and not has_kernel:
        fix = "Leave int8_max_pool away: the pool then works in floating point."
        raise LoweringError(f"torch {torch.__version__} has no {kernel} for {device.type}.", fix)
    if quantized:
        converted, rewritten = rewrite_for(
            device.type, converted, int8_max_pool, has_kernel, freezing
        )
        notes += rewritten
    if device.type == "cpu" and quantized and not cpu_has_vnni():
        notes.append("cpu without VNNI: u8×s8 products are left to saturate at 16 bits")
        said = """This CPU has no VNNI, or ONEDNN_MAX_CPU_ISA hides it: pairs of u8×s8 products
can saturate at 16 bits. Nothing is done about it, so that scales stay those of an XPU; compare
the SQNR against the Q/DQ reference."""
        warnings.warn(said, XpuqWarning, stacklevel=2)
    if bf16_autocast:
        notes.append("compiled and run under autocast to bfloat16")
        if device.type == "cpu" and not cpu_has_bf16():
            notes.append("cpu without bf16 instructions: the speed of bf16 means nothing here")
    # A cached graph comes back without its constants, and so without the proof.
    with (
        _precision(device, bf16_autocast),
        _settings(freezing),
        patient_dynamo(),
        torch._inductor.config.patch(fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        compiled = torch.compile(converted, dynamic=False, backend=_inductor(freezing))
        try:
            compilation = observe_compilation(compiled, example_inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = f"Inductor cannot compile this model for {device}: {error}".splitlines()[0]
            fix = "Run `xpuq doctor` (C++ compiler, Triton), then look at the cause above."
            raise LoweringError(cause, fix) from error
        except RuntimeError as error:  # what the compiled program raises
            first_line = str(error).partition("\n")[0]
            cause = f"The compiled model fails at its first call on {device}: {first_line}"
            fix = "Lower it without bf16_autocast, or with other layers in floating point."
            raise LoweringError(cause, fix) from error
    mode = MODES[device.type] if compilation.generated else "reference"
    signature = _signature(example_inputs)
    return Lowered(
        compiled,
        compilation,
        signature,
        device,
        mode,
        tuple(notes),
        bf16_autocast,
        asked,
        int8_max_pool,
    )


def rewrite_for(
    device_type: str,
    converted: fx.GraphModule,
    int8_max_pool: bool | None = None,
    has_int8_max_pool: bool = True,
    freezing: bool = True,
) -> tuple[fx.GraphModule, list[str]]:
    """Copy a converted model, and rewrite the copy exactly as a device needs it.

    Parameters
    ----------
    device_type : str
        ``xpu``, ``cpu`` or ``cuda``.
    converted : torch.fx.GraphModule
        From ``convert_pt2e``. Not changed.
    int8_max_pool : bool, optional
        As for `lower`.
    has_int8_max_pool : bool
        Whether torch has an int8 max-pool for this device.
    freezing : bool
        Whether int8 kernels will be made. Without them a CPU runs the signed codes as they are.

    Returns
    -------
    torch.fx.GraphModule, list of str
        The copy, which also has code of its own, so that Dynamo does not reuse what it compiled
        before; and what was rewritten, in words.
    """
    copied, notes = copy.deepcopy(converted), []
    if biases := fold_changed_biases(copied):
        notes.append(f"{biases} biases computed once, exactly")
    early = device_type == "xpu" and torch.__version__ < (2, 15)
    if early and (cats := keep_cats_floating(copied)):
        notes.append(f"{cats} concatenations kept in floating point, exactly")
    wanted = device_type == "cpu" if int8_max_pool is None else int8_max_pool
    # No oneDNN kernel, no reason for uint8: what torch.compile alone made is found in the cache.
    signed = device_type == "cpu" and not freezing and not int8_max_pool
    if signed or not has_int8_max_pool:
        keep_max_pools_floating(copied)
    elif pools := quantize_above_max_pool(copied, everywhere=wanted):
        notes.append(f"{pools} max-pool quantized before instead of after, exactly")
    if device_type == "cpu" and not signed:
        rewritten = signed_to_unsigned(copied)
        notes.append(f"cpu: {rewritten} int8 activation nodes rewritten as uint8, exactly")
    return copied, notes


def _signature(inputs: tuple[torch.Tensor, ...]) -> list[tuple]:
    return [(x.shape, x.dtype, x.device) for x in inputs]


def _describe(signature: list[tuple]) -> str:
    return ", ".join(f"{list(shape)} {dtype} on {device}" for shape, dtype, device in signature)
