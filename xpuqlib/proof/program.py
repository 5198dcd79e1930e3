"""Let Inductor write a program for a device, and stop it before it compiles anything."""

from __future__ import annotations

import copy
import inspect
import re
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch._inductor.config
from torch import fx
from torch._decomp import get_decompositions
from torch._dynamo.utils import counters
from torch._inductor import compile_fx
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.utils import BoxedBool
from torch._inductor.virtualized import V
from torch._prims_common import suggest_memory_format

from xpuqlib.errors import DraftError
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.proof.fake_constants import FakeConstants
from xpuqlib.proof.replaced import constants_without_values, nothing_compiled, nothing_packaged
from xpuqlib.recipe.compilation import Compilation, read_compilation

__all__ = ["executed_lines", "executed_lines_of_package", "write_program"]

# Of a Triton or C++ kernel: what is above it is its tuning, and names the GPU.
_KERNEL_BODY = re.compile(r"^((?:def triton_|extern \"C\").*?)^'''", re.M | re.S)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a Python function, in Inductor's assertions


class _Written(BaseException):
    """Inductor has written its program. An Exception would be taken for a failure, and wrapped."""


def _stop(program: str) -> None:
    raise _Written(program, V.graph)


def write_program(
    model: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    constants: FakeConstants,
    *,
    freezing: bool,
    bf16_autocast: bool,
    packaged: bool = False,
    dynamic_shapes: Any = None,
) -> tuple[Compilation, fx.Graph]:
    """Let Inductor write the program for the device of `constants`, and stop before it compiles.

    Parameters
    ----------
    packaged : bool
        Write the C++ of an AOTInductor package, not the Python of ``torch.compile``.
    dynamic_shapes : optional
        As for ``torch.export.export``.

    Returns
    -------
    Compilation, torch.fx.Graph
        What was written, and the graph with int8 operators that it was written from.
    """
    if pt2e_home() == "torchao":
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    kept: list[fx.Graph] = []

    def inner_compile(graph_module: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        kept.append(copy.deepcopy(graph_module.graph))
        return compile_fx.compile_fx_inner(graph_module, *args, cpp_wrapper=packaged, **kwargs)

    device, before, start = constants.device, Counter(counters["inductor"]), time.perf_counter()
    settings = torch._inductor.config.patch(
        freezing=freezing,
        freezing_discard_parameters=False,
        fx_graph_cache=False,
        compile_threads=1,  # nothing is compiled: no pool, a process more that imports torch
        shape_padding=False,  # it would measure on the GPU whether padding is faster
        cpp_wrapper=packaged,
        # By default a package's kernels are tuned before its C++ is written, with values in it.
        **{"triton.autotune_at_compile_time": False} if packaged else {},
    )
    try:
        inputs = tuple(map(constants.fake, example_inputs))
        with (
            torch.no_grad(),
            settings,
            torch.autocast(device, torch.bfloat16, enabled=bf16_autocast),
        ):
            exported = torch.export.export(
                constants.in_model(model), inputs, strict=False, dynamic_shapes=dynamic_shapes
            )
            exported = exported.run_decompositions(_decompositions())
        graph_module = constants.in_graph(exported)
        inputs = [node.meta["val"] for node in graph_module.graph.find_nodes(op="placeholder")]
        with (
            torch.no_grad(),
            settings,
            constants_without_values(constants),
            V.set_fake_mode(constants.mode),
            DebugContext(),
            V.set_aot_compilation(packaged),
            nothing_packaged(_stop) if packaged else nothing_compiled(_stop),
        ):
            _compiler(freezing, inner_compile)(graph_module, inputs)
    except _Written as written:
        program, lowering = written.args
        seconds = time.perf_counter() - start
        with settings:
            compilation = read_compilation([_ADDRESS.sub("", program)], [lowering], before, seconds)
        return compilation, kept[0]
    except Exception as error:  # Inductor raises many kinds; each is named and kept as the cause
        first_line = (str(error).strip() or "no message").splitlines()[0]
        cause = f"torch {torch.__version__} cannot write the program for {device}: "
        fix = "Update torch and torchao, or look at the program on a machine with an Intel GPU."
        raise DraftError(f"{cause}{type(error).__name__}: {first_line}", fix) from error
    raise DraftError(f"Inductor wrote no program for {device}.", "Draft a model that computes.")


def executed_lines(program: str) -> list[str]:
    """Give the lines that a program executes, with one name for all constants and the inputs.

    First the bodies of its own kernels, then its calls. Two programs with the same lines do the
    same in the same order, on tensors of the same shapes, strides and dtypes. Which constant a
    call takes is not compared.

    Raises
    ------
    DraftError
        If the text is not a whole program of Inductor.
    """
    call = re.search(r"def call\(.*?^(?=runner =|def benchmark)", program, re.M | re.S)
    if call is None:
        raise DraftError("The text is not a whole program of Inductor.", "Draft it again.")
    text = "".join([*_KERNEL_BODY.findall(program), call[0]])
    lines = [line for line in text.splitlines() if not line.strip().startswith(("#", "assert_"))]
    text = re.sub(r"\b(constant|folded|_frozen_param)\w*", "constant", "\n".join(lines))
    return re.sub(r"\b(arg\d+_1|x)\b", "input", text).splitlines()


def executed_lines_of_package(program: str) -> list[str]:
    """Give the lines that the C++ of a package executes, with numbered constants and inputs.

    First its own kernels in C++, then its calls. Checks of shapes that an environment variable
    asks for are left out.

    Raises
    ------
    DraftError
        If the text is not the C++ of a package.
    """
    call = _run_impl(program)
    names = dict(re.findall(r"auto&? (\w+) = constants_->at\((\d+)\);", call))
    names = {name: f"constant_{number}" for name, number in names.items()}
    inputs = re.findall(r"auto (\w+) = std::move\(inputs\[(\d+)\]\);", call)
    names |= {name: f"input_{number}" for name, number in inputs}
    kernels = re.findall(r"^extern \"C\" [^;]*?^\}$", program, re.M | re.S)
    lines = [line for text in (*kernels, call) for line in text.splitlines()]
    unseen = ("//", "if (_check_aoti_runtime_check_inputs_env()")
    lines = [line for line in lines if line.strip() and not line.strip().startswith(unseen)]
    return [re.sub(r"\w+", lambda word: names.get(word[0], word[0]), line) for line in lines]


def _run_impl(program: str) -> str:
    found = re.search(
        r"^void AOTInductorModel::run_impl\(.*?^\} // AOTInductorModel", program, re.M | re.S
    )
    if found is None:
        raise DraftError("The text is not the C++ of a package.", "Draft it again.")
    return found[0]


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Inductor's own, and two more.

    Its ``index_select`` indexes in Python, which asks for a guard of the device. And
    ``torch.compile`` decomposes ``upsample_nearest2d`` by a dispatch that an export leaves out:
    Inductor would call it as a fallback, and raises where the variable ``CI`` is set.
    """

    def index_select(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
        indexed = torch.ops.aten.index(x, [None] * (dim % x.dim()) + [index])
        return indexed.contiguous(memory_format=suggest_memory_format(x))

    upsample = get_decompositions([torch.ops.aten.upsample_nearest2d.vec])
    indexing = {torch.ops.aten.index_select.default: index_select}
    return select_decomp_table() | upsample | indexing


def _compiler(freezing: bool, inner_compile: Callable[..., Any]) -> Callable[..., Any]:
    """Inductor's own compiler for a graph with frozen constants, or with constants only."""
    nothing = {"cudagraphs": BoxedBool(False), "graph_id": 0}
    if not freezing:
        return lambda graph, inputs: inner_compile(graph, inputs, is_inference=True, **nothing)
    freezes = compile_fx.fw_compiler_freezing
    # torch 2.8 takes these one by one, later ones in one object.
    settings = nothing | {"forward_device": None, "forward_device_index": None}
    known = inspect.signature(freezes).parameters
    more = {name: value for name, value in settings.items() if name in known}
    if "compiler_config_extra" in known:
        more = {"compiler_config_extra": SimpleNamespace(**settings)}
    return lambda graph, inputs: freezes(graph, inputs, None, len(inputs), inner_compile, **more)
