"""Imperative and TorchScript mode: where they run, on which model, and what became int8."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn
from torch.ao.nn.quantized.modules.utils import WeightedQuantizedModule

from xpuqlib.errors import ModelError, TrackError
from xpuqlib.machine.device import MODES
from xpuqlib.machine.environment import IPEX, current_track, installed_version, ipex_mismatch
from xpuqlib.machine.noise import without_native_messages
from xpuqlib.material.models import BUILD_SETTINGS
from xpuqlib.names import MODELS

__all__ = ["Place", "count_nodes", "count_quantized", "eager_place", "quantizable_model"]


@dataclass(frozen=True)
class Place:
    """Where the quantized kernels of both modes run.

    Attributes
    ----------
    device : torch.device
        Put model and data here; the CPU where the device asked for has no such kernels.
    ipex : bool
        Whether IPEX is there, and imported.
    mode : str
        ``executed`` on xpu, ``rehearsed`` on cpu.
    description : str
        In words, with the reason if it is another device than asked for.
    """

    device: torch.device
    ipex: bool
    mode: str
    description: str


def eager_place(device: torch.device) -> Place:
    """Find where quantized kernels exist for a device; imports IPEX where its version fits.

    Raises
    ------
    TrackError
        If IPEX is installed for another torch: importing it could end the process.
    """
    if mismatch := ipex_mismatch():
        raise TrackError(f"{mismatch}.", f"pip uninstall {IPEX}, or see `xpuq doctor`.")
    has_ipex = installed_version(IPEX) is not None
    if has_ipex:
        with without_native_messages():
            import intel_extension_for_pytorch  # noqa: F401
    where = f"{'IPEX' if has_ipex else 'stock PyTorch'}, {current_track().name} track"
    if device.type == "cpu" or (device.type == "xpu" and has_ipex):
        return Place(device, has_ipex, MODES[device.type], f"on {device.type} with {where}")
    lacks = "xpu without IPEX" if device.type == "xpu" else device.type
    description = f"on cpu with {where}: {lacks} has no quantized kernels for this mode"
    return Place(torch.device("cpu"), has_ipex, MODES["cpu"], description)


def quantizable_model(name: str, model: nn.Module) -> nn.Module:
    """Build torchvision's eager-mode variant of a model, with its weights, fused.

    Parameters
    ----------
    name : str
        One of `xpuqlib.names.MODELS`.
    model : torch.nn.Module
        From `xpuqlib.material.load_model`; gives weights, classes and device. Not changed.

    Raises
    ------
    ModelError
        For an unknown name, or weights that do not fit.
    """
    if name not in MODELS:
        raise ModelError(f"There is no model {name!r} in this kit.", f"Use {', '.join(MODELS)}.")
    state = model.state_dict()
    build = getattr(torchvision.models.quantization, name)
    classes = [value for key, value in state.items() if key.endswith("bias")][-1].shape[0]
    settings = BUILD_SETTINGS.get(name, {})
    rewritten = build(weights=None, quantize=False, num_classes=classes, **settings)
    try:
        rewritten.load_state_dict(state)
    except RuntimeError as error:
        cause = f"These weights are not those of {name}: {error}".splitlines()[0]
        fix = "Pass the model that load_model gives for the same name."
        raise ModelError(cause, fix) from error
    rewritten.eval().fuse_model()
    return rewritten.to(next(iter(state.values())).device)


def count_quantized(model: nn.Module) -> dict[str, dict[str, int]]:
    """Convs and linears of a model from ``torch.quantization.convert``: all, and quantized ones."""
    counts = {kind: {"in the model": 0, "quantized": 0} for kind in ("conv", "linear")}
    for module in model.modules():
        quantized = isinstance(module, WeightedQuantizedModule)
        # A fused float module holds the conv that it is made of: only that one is counted.
        if quantized or isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            kind = "linear" if "linear" in type(module).__name__.lower() else "conv"
            counts[kind]["in the model"] += 1
            counts[kind]["quantized"] += quantized
    return counts


def count_nodes(graph: Any) -> dict[str, int]:
    """How often each kind of node occurs in a TorchScript graph, nested blocks included.

    Parameters
    ----------
    graph : torch.Graph
        Such as ``module.inlined_graph`` or ``module.graph_for(x)``.
    """
    counts = Counter(node.kind() for node in graph.nodes())
    for node in graph.nodes():
        for block in node.blocks():
            counts.update(count_nodes(block))
    return dict(counts)
