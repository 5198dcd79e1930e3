"""Watch Inductor compile, and keep what it did as proof."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch
import torch._inductor.config
from torch import fx
from torch._dynamo.utils import counters
from torch._inductor import cpp_builder
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import run_and_get_graph_lowering
from torch.utils._pytree import tree_leaves

from xpuqlib.errors import LoweringError
from xpuqlib.machine.device import synchronize
from xpuqlib.machine.environment import pt2e_home

__all__ = [
    "Compilation",
    "Int8Call",
    "Operator",
    "compiler_commands",
    "observe_compilation",
    "read_compilation",
]

compiler_commands: list[str] = []  # what Inductor gave to the C++ compiler, instead of its cache
_run_compile_cmd = cpp_builder.run_compile_cmd


def _noted(command: str, cwd: str) -> None:
    if "-E" not in shlex.split(command):  # preprocessing only: a header is looked at for changes
        compiler_commands.append(command)
    _run_compile_cmd(command, cwd)


# Dynamo's own list of compile times is emptied by every strict export.
cpp_builder.run_compile_cmd = _noted

# In Python, or in the C++ of a package.
_INT8_CALL = re.compile(
    r"(?:torch\.ops\.onednn\.|aoti_torch_(?:cpu|xpu)__)(q(?:conv|linear)\w*)\S*\((.*)\)"
)
_OTHER_KERNEL = re.compile(
    r"^ +(?:call_)?((?:cpp|triton)\w*_fused_\w+(?=\(|\.run\()|torch\.ops\.quantized\.\w+)", re.M
)
_MOVES = re.compile("as_strided|getitem|inductor_force_stride_order|permute|q?reshape|view")
_DTYPE_NAMES = {"uint8": "int8", "bfloat16": "bf16", "float32": "fp32"}
_PASSES_MODULE = "torchao.quantization.pt2e.quantizer.x86_inductor_quantizer"


@dataclass(frozen=True)
class Int8Call:
    """One int8 operator: its name, and the constants it is called with (weight, scale, bias)."""

    operator: str
    constants: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Operator:
    """One operator of the lowered graph.

    Attributes
    ----------
    name : str
        As Inductor calls it, such as ``qconv_binary``, ``mean``.
    reads, writes : str
        ``int8`` (signed or not), ``bf16``, ``fp32`` or another dtype's own name: what its first
        activation holds, and its output.
    """

    name: str
    reads: str
    writes: str


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
    operators : tuple of Operator
        The lowered graph in execution order, without what only moves or reshapes.
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
    operators: tuple[Operator, ...]
    counters: dict[str, int]
    other_kernels: tuple[str, ...]
    freezing: bool
    passes_loaded: bool
    seconds: float


def observe_compilation(
    compiled: Callable[..., torch.Tensor], example_inputs: tuple[torch.Tensor, ...]
) -> Compilation:
    """Run a model of ``torch.compile`` for the first time, and keep what Inductor did.

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
    before = Counter(counters["inductor"])
    codes: list[str] = []
    start = time.perf_counter()
    # torch's own run_and_get_code resets Dynamo, which would drop every earlier compiled model.
    with torch.no_grad(), mock.patch.object(GraphLowering, "save_output_code", codes.append):
        _, graphs = run_and_get_graph_lowering(compiled, *example_inputs)
        synchronize(example_inputs[0].device)
    seconds = time.perf_counter() - start
    if not codes and not graphs:
        fix = "Pass a fresh torch.compile(model), or call torch._dynamo.reset() first."
        raise LoweringError("Nothing was compiled: this model was compiled before.", fix)
    return read_compilation(codes, graphs, before, seconds)


def read_compilation(
    codes: list[str], graphs: list[GraphLowering], before: Counter, seconds: float
) -> Compilation:
    """Read what Inductor wrote, with its settings of this moment.

    Parameters
    ----------
    codes : list of str
        What it generated, a text for each graph.
    graphs : list of GraphLowering
        What it generated them from.
    before : Counter
        Inductor's counters before.
    seconds : float
    """
    code = "\n".join(codes)
    matched = tuple(call for graph in graphs for call in _matched(graph))
    return Compilation(
        code=code,
        matched=matched,
        generated=tuple(_generated(*call, matched) for call in _INT8_CALL.findall(code)),
        operators=tuple(operator for graph in graphs for operator in _operators(graph)),
        counters=dict(Counter(counters["inductor"]) - before),
        other_kernels=tuple(dict.fromkeys(_OTHER_KERNEL.findall(code))),
        freezing=torch._inductor.config.freezing,
        passes_loaded=pt2e_home() == "torch.ao" or _PASSES_MODULE in sys.modules,
        seconds=seconds,
    )


def _name(node: fx.Node) -> str:
    # After fusion the target is a function of Inductor, before it an operator.
    return getattr(getattr(node.target, "func", node.target), "__name__", str(node.target))


def _operators(graph: GraphLowering) -> list[Operator]:
    operators = []
    for node in graph.graph.nodes:
        sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
        name = {"fn": "fused"}.get(_name(node), _name(node).split(".")[0])
        if node.op == "call_function" and sources and not _MOVES.fullmatch(name):
            operators.append(Operator(name, dtype_name(sources[0]), dtype_name(node)))
    return operators


def dtype_name(node: fx.Node) -> str:
    """``int8`` (signed or not), ``bf16``, ``fp32`` or the own name of what a node gives."""
    [value, *_] = tree_leaves(node.meta.get("val"))
    dtype = str(getattr(value, "dtype", "none")).removeprefix("torch.")
    return _DTYPE_NAMES.get(dtype, dtype)


def _matched(graph: GraphLowering) -> list[Int8Call]:
    calls = []
    for node in graph.graph.nodes:
        name = _name(node)
        if node.op == "call_function" and re.match(r"q(conv|linear)(?!_prepack)", name):
            constants = [n.target for n in node.all_input_nodes if n.op == "get_attr"]
            calls.append(Int8Call(name, {c: getattr(graph.module, c) for c in constants}))
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
