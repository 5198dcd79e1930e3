"""An Intel GPU that is not there, as far as Inductor must believe in it to write a program for it.

Everything of torch that stands in for the GPU meanwhile is in this module, and is put back
afterwards; what stands in for values is in fake_constants.py and program.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._inductor.constant_folding
import torch._inductor.fx_passes.pad_mm  # it keeps has_triton by name: not what stands in for it
import torch._inductor.scheduler
import torch._subclasses.fake_tensor
import torch.utils._triton
from torch._dynamo.device_interface import XpuInterface
from torch._inductor.fx_passes import joint_graph, post_grad
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.utils import get_gpu_type

from xpuqlib.errors import DraftError

__all__ = ["ASSUMED_GPUS", "AssumedGPU", "assume_gpu", "assumed_gpu", "replacements"]


@dataclass(frozen=True)
class AssumedGPU:
    """What Inductor asks about a GPU while it writes a program for it.

    Attributes
    ----------
    name : str
    gpu_subslice_count : int
        Xe-cores; Inductor divides reductions by it.
    gpu_eu_count : int
        Vector engines.
    has_fp64 : bool
    total_memory : int
        Bytes.
    is_here : bool
        Whether it is the GPU of this machine: then nothing stands in for it.
    """

    name: str
    gpu_subslice_count: int
    gpu_eu_count: int
    has_fp64: bool
    total_memory: int
    is_here: bool = False


# From Intel's product pages; the first is the default.
ASSUMED_GPUS = {
    "max-1100": AssumedGPU("Intel Data Center GPU Max 1100", 56, 448, True, 48 * 2**30),
    "arc-b580": AssumedGPU("Intel Arc B580", 20, 160, True, 12 * 2**30),
    "arc-a770": AssumedGPU("Intel Arc A770", 32, 512, False, 16 * 2**30),
}


def assumed_gpu(name: str | None) -> AssumedGPU:
    """Find a GPU of the table by its short name, or the one that is here, or the default.

    Raises
    ------
    DraftError
        For a name that the table does not have.
    """
    if name is None and torch.xpu.is_available():
        here = torch.xpu.get_device_properties()
        asked = [field for field in AssumedGPU.__dataclass_fields__ if field != "is_here"]
        return AssumedGPU(**{field: getattr(here, field) for field in asked}, is_here=True)
    if name is not None and name not in ASSUMED_GPUS:
        raise DraftError(f"No GPU is known as {name!r}.", f"Choose of {', '.join(ASSUMED_GPUS)}.")
    return ASSUMED_GPUS[name or next(iter(ASSUMED_GPUS))]


@contextlib.contextmanager
def assume_gpu(gpu: AssumedGPU) -> Iterator[None]:
    """Let Inductor write for an Intel GPU, also in a build of torch without XPU.

    FakeTensors of device xpu need no such build. Nothing can be executed on the GPU.
    """
    with contextlib.ExitStack() as stack:
        for place, name, stand_in in [] if gpu.is_here else replacements(gpu):
            if hasattr(place, name):  # torch 2.8 and 2.15 do not have all of them
                stack.enter_context(mock.patch.object(place, name, stand_in))
        for asks_once in (DeviceProperties.create, get_gpu_type):
            asks_once.cache_clear()
            stack.callback(asks_once.cache_clear)
        yield


def replacements(gpu: AssumedGPU) -> Iterator[tuple[Any, str, Any]]:
    """Yield what is replaced meanwhile: the place, the name there, and what stands in for it."""
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
    # Python's method asks for a guard of the device, which the operator does not.
    yield torch.Tensor, "copy_", lambda *args, **kwargs: torch.ops.aten.copy_(*args, **kwargs)
    # torch 2.8 starts a GPU's context before the first fake tensor of its kind.
    yield torch._subclasses.fake_tensor, "init_gpu_context", _always(None)


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: answer


def _traced_on_cpu(lazy_init: Callable[..., Any], *device: Any) -> Any:
    return lazy_init(*(torch.device("cpu") for _ in device))
