"""Everything of torch that is replaced while a program is written for a GPU that is not there.

All of it is put back afterwards, also when something fails. Each replacement says why it is needed.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

# freezing, freezing_patterns and pad_mm keep names of other modules: import them before.
import torch._inductor.freezing
import torch._inductor.fx_passes.freezing_patterns
import torch._inductor.fx_passes.pad_mm
import torch._inductor.graph
import torch._inductor.scheduler
import torch._subclasses.fake_tensor
import torch.utils._triton
from torch import fx
from torch._dynamo.device_interface import XpuInterface
from torch._inductor import constant_folding
from torch._inductor.codecache import AotCodeCompiler
from torch._inductor.codegen import cpp_wrapper_gpu
from torch._inductor.fx_passes import joint_graph, post_grad
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.utils import get_gpu_type
from torch._inductor.virtualized import V

from xpuqlib.proof.assumed_gpu import AssumedGPU
from xpuqlib.proof.fake_constants import FakeConstants, on_cpu, prepacked

__all__ = [
    "constants_without_values",
    "gpu_that_is_not_there",
    "nothing_compiled",
    "nothing_packaged",
    "replacements",
]

Replacement = tuple[Any, str, Any]  # the place, the name there, and what stands in for it


@contextlib.contextmanager
def gpu_that_is_not_there(gpu: AssumedGPU) -> Iterator[None]:
    """Let Inductor write for an Intel GPU, also in a build of torch without XPU.

    FakeTensors of device xpu need no such build. Nothing can be executed on the GPU.
    """
    with _replaced([] if gpu.is_here else replacements(gpu)), contextlib.ExitStack() as stack:
        for asks_once in (DeviceProperties.create, get_gpu_type):
            asks_once.cache_clear()
            stack.callback(asks_once.cache_clear)
        yield


def replacements(gpu: AssumedGPU) -> Iterator[Replacement]:
    """Yield what stands in for a GPU."""
    capability = asdict(gpu) | {"sub_group_sizes": [16, 32], "max_work_group_size": 1024}
    properties = SimpleNamespace(**capability, warp_size=32, max_threads_per_block=1024)
    answers = {
        # Is there a GPU? Autocast, FakeTensors and Inductor's passes ask.
        "is_available": _always(True),
        "device_count": _always(1),
        "current_device": _always(0),
        # What can it do? Written into each Triton kernel; reductions are divided by it.
        "get_device_properties": _always(properties),
        "get_device_capability": _always(capability),
        "get_compute_capability": _always(capability),
        "is_bf16_supported": _always(True),
        # What a kernel is launched with, and whether it could be compiled.
        "get_raw_stream": _always(0),
        "raise_if_triton_unavailable": _always(None),
        # Tracing and compiling keep the state of random numbers, and put it back.
        "get_rng_state": _always(torch.zeros(0)),
        "set_rng_state": _always(None),
    }
    for place in (torch.xpu, XpuInterface, XpuInterface.Worker):
        for name, answer in answers.items():
            yield place, name, answer if place is torch.xpu else staticmethod(answer)
    yield torch.cuda, "is_available", _always(False)  # Inductor knows one kind of GPU at a time
    # PyPI's Triton has no XPU in it. Its compiler is not called: the source is all that is wanted.
    yield torch._inductor.scheduler, "has_triton", _always(True)
    yield torch.utils._triton, "has_triton", _always(True)
    yield torch.utils._triton, "triton_backend", _always(None)
    yield torch.utils._triton, "triton_hash_with_backend", _always("0" * 64)
    # The patterns do not depend on the device, but are traced on it, with operators it lacks.
    for passes in (joint_graph, post_grad):
        yield passes, "lazy_init", functools.partial(_traced_on_cpu, passes.lazy_init)
    # Python's methods ask for a guard of the device, which the operators do not.
    yield torch.Tensor, "copy_", lambda *args, **kwargs: torch.ops.aten.copy_(*args, **kwargs)
    yield torch.Tensor, "contiguous", _contiguous
    # torch 2.8 starts a GPU's context before the first fake tensor of its kind.
    yield torch._subclasses.fake_tensor, "init_gpu_context", _always(None)


@contextlib.contextmanager
def constants_without_values(constants: FakeConstants) -> Iterator[None]:
    """Let Inductor fold constants without values; what they become is computed aside."""
    replace = constant_folding.replace_node_with_constant
    folder, uniform_folder = constant_folding.ConstantFolder, joint_graph.UniformValueConstantFolder
    deduce, deduce_uniform = folder._deduce_value, uniform_folder._deduce_value

    def replaced(module: fx.GraphModule, node: fx.Node, constant: torch.Tensor) -> None:
        name, constant = constants.keep(node, constant)
        replace(module, node, constant, name)

    def deduced(interpreter: fx.Interpreter, node: fx.Node) -> Any:
        if not re.match(r"onednn\.q(conv|linear)_prepack", str(node.target)):
            return deduce(interpreter, node)
        with constants.mode:  # FakeTensors know no prepacking
            return prepacked(node, interpreter.env[node.args[0]]).clone()

    def deduced_uniform(interpreter: fx.Interpreter, node: fx.Node) -> Any:
        if node.op == "get_attr":  # it looks at a value, which only we have
            value = constants.values[node.target]
            return value if value.numel() == 1 else interpreter.unknown_value
        arguments = node.kwargs
        node.kwargs = on_cpu(arguments)
        try:
            return deduce_uniform(interpreter, node)
        finally:
            node.kwargs = arguments

    stand_ins = [
        (constant_folding, "replace_node_with_constant", replaced),
        (folder, "_deduce_value", deduced),
        (uniform_folder, "_deduce_value", deduced_uniform),
        # Without values they share the address 0: Inductor would take equal shapes for one.
        (torch._inductor.graph, "is_same_tensor", operator.is_),
    ]
    with _replaced(stand_ins):
        yield


@contextlib.contextmanager
def nothing_compiled(take: Callable[[str], None]) -> Iterator[None]:
    """Give Inductor's program to `take`, which must raise, in place of the loader."""
    with _replaced([(GraphLowering, "save_output_code", take)]):
        yield


@contextlib.contextmanager
def nothing_packaged(take: Callable[[str], None]) -> Iterator[None]:
    """Give the C++ of a package to `take`, which must raise, in place of the compiler."""

    def taken(_: GraphLowering, wrapper: str, kernels: str, nodes: str | None, **__: Any) -> None:
        by_name = f"/* extern_kernel_nodes.json\n{nodes}\n*/" if nodes else ""
        take("\n".join([wrapper, kernels, by_name]))

    stand_ins = [
        (AotCodeCompiler, "compile", taken),
        # The first pass would compile a program for the GPU and run it, to tune Triton's kernels.
        (GraphLowering, "_run_jit_variant_for_autotune", _always(None)),
        # What it found would stand in this header, as macros. Nothing was tuned: there are none.
        (cpp_wrapper_gpu, "generate_aoti_kernel_config_header", _sources),
    ]
    with _replaced(stand_ins):
        yield


def _sources(names: list[str]) -> str:
    """Give the sources of Triton's kernels as comments, in place of their compiled form."""
    sources = V.graph.wrapper_code._kernel_name_to_body
    return "\n".join(
        f"/* {name}: not compiled, so {name.upper()}_* is not defined\n{sources[name]}*/"
        for name in names
    )


@contextlib.contextmanager
def _replaced(stand_ins: Iterable[Replacement]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for place, name, stand_in in stand_ins:
            if hasattr(place, name):  # torch 2.8 and 2.15 do not have all of them
                stack.enter_context(mock.patch.object(place, name, stand_in))
        yield


def _contiguous(
    x: torch.Tensor, *, memory_format: torch.memory_format = torch.contiguous_format
) -> torch.Tensor:
    return torch.ops.aten.contiguous(x, memory_format=memory_format)


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: answer


def _traced_on_cpu(lazy_init: Callable[..., Any], *device: Any) -> Any:
    return lazy_init(*(torch.device("cpu") for _ in device))
