"""Choose a device (xpu, then cuda, then cpu), describe it, and wait for it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from xpuqlib.errors import DeviceError

__all__ = [
    "DeviceInfo",
    "choose_device",
    "cpu_has_bf16",
    "cpu_has_vnni",
    "describe_device",
    "synchronize",
]

MODES = {"xpu": "executed", "cpu": "rehearsed", "cuda": "reference"}
# oneDNN's names for what a person may limit it to, without int8 dot products.
_ISA_WITHOUT_VNNI = {"SSE41", "AVX", "AVX2", "AVX512_CORE"}


@dataclass(frozen=True)
class DeviceInfo:
    """What is known of a device, as plain values.

    Attributes
    ----------
    type, name : str
        ``xpu``, ``cuda`` or ``cpu``, and the hardware's own name.
    mode : str
        What the lessons do on it: ``executed``, ``rehearsed`` or ``reference``.
    memory_bytes : int or None
        Memory of the device; None for a CPU.
    features : dict
        xpu: driver, xmx, fp64; cpu: vnni, amx, bf16, threads.
    """

    type: str
    name: str
    mode: str
    memory_bytes: int | None = None
    features: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a run record."""
        return asdict(self)

    def _repr_html_(self) -> str:
        memory = f"{self.memory_bytes / 2**30:.1f} GiB, " if self.memory_bytes else ""
        features = ", ".join(f"{key} {value}" for key, value in self.features.items())
        return f"<b>{self.type}</b>: {self.name} ({memory}{features}): lessons are {self.mode}"


def choose_device(name: str = "auto") -> torch.device:
    """Pick the device to run on.

    Parameters
    ----------
    name : str
        ``auto`` for the best there is, or ``xpu``, ``cuda``, ``cpu``.

    Raises
    ------
    DeviceError
        If the name is unknown or that device is not available.
    """
    available = {"xpu": torch.xpu.is_available(), "cuda": torch.cuda.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    there = ", ".join(kind for kind, is_there in available.items() if is_there)
    if name not in available:
        raise DeviceError(f"There is no device {name!r}.", "Use auto, xpu, cuda or cpu.")
    if not available[name]:
        cause = f"No {name} device is available to torch {torch.__version__} here (only: {there})."
        fix = f"Use --device {there.split(', ')[0]}, or run `xpuq doctor` to see what is missing."
        raise DeviceError(cause, fix)
    return torch.device(name)


def describe_device(device: torch.device) -> DeviceInfo:
    """Describe a device in plain values."""
    if device.type == "cpu":
        features = {
            "vnni": cpu_has_vnni(),
            "amx": torch.cpu._is_amx_tile_supported(),
            "bf16": cpu_has_bf16(),
            "threads": torch.get_num_threads(),
        }
        # platform.processor() is empty on most Linux systems.
        name = _cpuinfo("model name") or platform.processor() or platform.machine()
        return DeviceInfo("cpu", name, MODES["cpu"], features=features)
    module = torch.xpu if device.type == "xpu" else torch.cuda
    found = module.get_device_properties(device)
    wanted = {
        "driver": "driver_version",
        "xmx": "has_subgroup_matrix_multiply_accumulate",
        "fp64": "has_fp64",
        "architecture": "architecture",
    }
    features = {key: getattr(found, name) for key, name in wanted.items() if hasattr(found, name)}
    return DeviceInfo(device.type, found.name, MODES[device.type], found.total_memory, features)


def cpu_has_vnni() -> bool:
    """Whether oneDNN may use int8 dot products; without them u8×s8 sums can saturate at 16 bits.

    ``ONEDNN_MAX_CPU_ISA`` counts: it takes the instructions away from oneDNN.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    # torch asks for AVX512-VNNI only; client CPUs have AVX-VNNI instead.
    has = torch.cpu._is_vnni_supported() or "avx_vnni" in _cpuinfo("flags").split()
    return has and limit not in _ISA_WITHOUT_VNNI


def cpu_has_bf16() -> bool:
    """Whether oneDNN may multiply bfloat16 directly; ``ONEDNN_MAX_CPU_ISA`` counts here, too."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    limited = limit in _ISA_WITHOUT_VNNI | {"AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE_VNNI"}
    return torch.cpu._is_avx512_bf16_supported() and not limited


def _cpuinfo(key: str) -> str:
    """One value of Linux's /proc/cpuinfo, empty elsewhere."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), "")
    return ""


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work; a CPU has no queue.

    Raises
    ------
    DeviceError
        For a device kind that this kit does not know.
    """
    if device.type == "cpu":
        return
    if device.type not in MODES:
        raise DeviceError(f"Cannot synchronize a {device.type} device.", "Use xpu, cuda or cpu.")
    torch.accelerator.synchronize(device)
