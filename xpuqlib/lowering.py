"""Lower a converted model through Inductor, and keep what the compiler did as proof."""

from __future__ import annotations

import copy
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
import torch._dynamo.utils
import torch._functorch.config
import torch._inductor.config
from torch import fx, nn
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import run_and_get_graph_lowering

from xpuqlib.device import MODES, cpu_has_vnni, synchronize
from xpuqlib.environment import pt2e_home
from xpuqlib.errors import LoweringError, XpuqWarning
from xpuqlib.passes import quantize_above_max_pool, signed_to_unsigned

__all__ = ["Compilation", "Int8Call", "Lowered", "lower", "observe_compilation"]

_INT8_CALL = re.compile(r"torch\.ops\.onednn\.(q(?:conv|linear)\w*)\S*\((.*)\)")
_OTHER_KERNEL = re.compile(r"^ +((?:cpp|triton)\w*_fused_\w+|torch\.ops\.quantized\.\w+)", re.M)
_PASSES_MODULE = "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer"


@dataclass(frozen=True)
class Int8Call:
    """One int8 operator: its name, and the constants it is called with (weight, scale, bias)."""

    operator: str
    constants: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Compilation:
    """What Inductor did while it compiled.

    Attributes
    ----------
    code : str
        The generated code.
    matched : tuple of Int8Call
        Convs and linears that Inductor's int8 passes replaced in the graph.
    generated : tuple of Int8Call
        Calls of oneDNN's int8 kernels in the generated code.
    counters : dict of str to int
        Inductor's counters, of this compilation only.
    other_kernels : tuple of str
        Generated kernels between the int8 calls, such as a pooling or a quantize.
    freezing, passes_loaded : bool
        Whether freezing was on, and Inductor's int8 passes registered; int8 needs both.
    seconds : float
        Compilation and the first run.
    """

    code: str
    matched: tuple[Int8Call, ...]
    generated: tuple[Int8Call, ...]
    counters: dict[str, int]
    other_kernels: tuple[str, ...]
    freezing: bool
    passes_loaded: bool
    seconds: float


@dataclass(frozen=True)
class Lowered:
    """A compiled model for one input shape.

    Every strict export makes Dynamo forget what it compiled. The next call then compiles once
    more, with the same freezing, and so to the same kernels.

    Attributes
    ----------
    compilation : Compilation
    device : torch.device
    mode : str
        ``executed`` (int8 kernels on xpu), ``rehearsed`` (int8 kernels on cpu) or ``reference``
        (no int8 kernel ran).
    notes : tuple of str
        Which exact rewrites were done, and what this device does differently than an XPU.
    """

    compiled: Callable[..., torch.Tensor]
    compilation: Compilation
    signature: tuple[str, ...]
    device: torch.device
    mode: str
    notes: tuple[str, ...]

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run without gradients; LoweringError for another shape, dtype or device."""
        signature = _signature(inputs)
        if signature != self.signature:
            raise LoweringError(
                f"Lowered for {', '.join(self.signature)}, called with {', '.join(signature)}.",
                "Convert the input, pad the last batch, or capture, convert and lower again.",
            )
        # Without the patch, another compilation would run in floating point and say nothing.
        with torch.no_grad(), torch._inductor.config.patch(freezing=self.compilation.freezing):
            return self.compiled(*inputs)


def lower(
    converted: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    freezing: bool = True,
    int8_max_pool: bool = True,
) -> Lowered:
    """Compile a model with ``torch.compile`` and freezing, as the device needs it.

    ======  =========================================================================
    xpu     freezing; oneDNN int8 kernels on the GPU
    cpu     exact rewrites of a copy (passes.py), then the same kernels on the CPU
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
    int8_max_pool : bool
        On a CPU, quantize before a max-pool instead of after it, which changes no output bit.

    Raises
    ------
    LoweringError
        If the graph cannot be rewritten exactly, or does not compile.
    """
    if pt2e_home() == "torchao":
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    device = example_inputs[0].device
    notes = []
    quantized = isinstance(converted, fx.GraphModule) and "quantized_decomposed" in converted.code
    if device.type == "cuda":
        freezing = False
        notes.append("cuda: no oneDNN kernels, compiled without freezing as a reference")
    if quantized:  # a copy has code of its own: Dynamo would reuse what it compiled before
        converted = copy.deepcopy(converted)
    if device.type == "cpu" and quantized:
        # Elsewhere Inductor would call quantized::max_pool2d, which xpu and cuda do not have.
        if int8_max_pool and (pools := quantize_above_max_pool(converted)):
            notes.append(f"{pools} max-pool quantized before instead of after, exactly")
        rewritten = signed_to_unsigned(converted)
        notes.append(f"cpu: {rewritten} int8 activation nodes rewritten as uint8, exactly")
        if not cpu_has_vnni():
            notes.append("cpu without VNNI: u8×s8 products are left to saturate at 16 bits")
            warnings.warn(
                "This CPU has no VNNI, or ONEDNN_MAX_CPU_ISA hides it: pairs of u8×s8 products "
                "can saturate at 16 bits. Nothing is done about it, so that scales stay those of "
                "an XPU; compare the SQNR against the Q/DQ reference.",
                XpuqWarning,
                stacklevel=2,
            )
    # A cached graph comes back without its constants, and so without the proof.
    with (
        torch._inductor.config.patch(freezing=freezing, fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        compiled = torch.compile(converted, dynamic=False)
        try:
            compilation = observe_compilation(compiled, example_inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise LoweringError(
                f"Inductor cannot compile this model for {device}: {error}".splitlines()[0],
                "Run `xpuq doctor` (C++ compiler, Triton), then look at the cause above.",
            ) from error
    mode = MODES[device.type] if compilation.generated else "reference"
    return Lowered(compiled, compilation, _signature(example_inputs), device, mode, tuple(notes))


def _signature(inputs: tuple[torch.Tensor, ...]) -> tuple[str, ...]:
    return tuple(f"{list(x.shape)} {x.dtype} on {x.device.type}" for x in inputs)


def observe_compilation(
    compiled: Callable[..., torch.Tensor], example_inputs: tuple[torch.Tensor, ...]
) -> Compilation:
    """Run a ``torch.compile``d model for the first time, and keep what Inductor did.

    Parameters
    ----------
    compiled : callable
        From ``torch.compile``, not called before.
    example_inputs : tuple of torch.Tensor

    Raises
    ------
    LoweringError
        If nothing was compiled: the model had been compiled before.
    """
    before = Counter(torch._dynamo.utils.counters["inductor"])
    codes: list[str] = []
    start = time.perf_counter()
    # torch's own run_and_get_code resets Dynamo, which would drop every earlier compiled model.
    with torch.no_grad(), mock.patch.object(GraphLowering, "save_output_code", codes.append):
        _, graphs = run_and_get_graph_lowering(compiled, *example_inputs)
        synchronize(example_inputs[0].device)
    seconds = time.perf_counter() - start
    if not codes and not graphs:
        raise LoweringError(
            "Nothing was compiled: this model was compiled before.",
            "Pass a fresh torch.compile(model), or call torch._dynamo.reset() first.",
        )
    matched = tuple(call for graph in graphs for call in _matched(graph))
    return Compilation(
        code="\n".join(codes),
        matched=matched,
        generated=tuple(
            _generated(name, args, matched) for name, args in _INT8_CALL.findall("\n".join(codes))
        ),
        counters=dict(Counter(torch._dynamo.utils.counters["inductor"]) - before),
        other_kernels=tuple(dict.fromkeys(_OTHER_KERNEL.findall("\n".join(codes)))),
        freezing=torch._inductor.config.freezing,
        passes_loaded=pt2e_home() == "torch.ao" or _PASSES_MODULE in sys.modules,
        seconds=seconds,
    )


def _matched(graph: GraphLowering) -> list[Int8Call]:
    calls = []
    for node in graph.graph.nodes:
        # After fusion the target is a function of Inductor, before it an onednn operator.
        name = getattr(getattr(node.target, "func", node.target), "__name__", str(node.target))
        if node.op == "call_function" and re.match(r"q(conv|linear)(?!_prepack)", name):
            constants = {
                source.target: getattr(graph.module, source.target)
                for source in node.all_input_nodes
                if source.op == "get_attr"
            }
            calls.append(Int8Call(name, constants))
    return calls


def _generated(operator: str, arguments: str, matched: tuple[Int8Call, ...]) -> Int8Call:
    """Give a call in the code the constants of the matched node with the same packed weight."""
    names = set(re.findall(r"\w+", arguments))
    for call in matched:
        # Inductor writes constants of up to 8 values into the code, so scales may have no name.
        weights = {n for n, value in call.constants.items() if value.dtype == torch.int8}
        if weights & names:
            return Int8Call(operator, call.constants)
    return Int8Call(operator, {})
