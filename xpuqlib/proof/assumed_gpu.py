"""The Intel GPU that a program is written for: the one that is here, or one of a small table."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xpuqlib.errors import DraftError

__all__ = ["ASSUMED_GPUS", "AssumedGPU", "assumed_gpu"]


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
