"""Switch the quantizers of a calibrated model off and on: no second capture, nothing compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx, nn

from xpuqlib.errors import SensitivityError
from xpuqlib.recipe.layers import layer_kind, layer_name, layer_names, refuse_unknown
from xpuqlib.recipe.pt2e import ObserverBase

__all__ = ["KINDS", "Switch", "Switchable"]

KINDS = ("activation", "weight", "other")
DECOMPOSED = torch.ops.quantized_decomposed


@dataclass(frozen=True)
class _Pair:
    """What ``convert_pt2e`` takes from an observer."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    limits: tuple[int, int, torch.dtype]
    axis: int | None

    @cached_property
    def _arguments(self) -> tuple:
        if self.axis is None:
            return self.scale.item(), int(self.zero_point.item()), *self.limits
        return self.scale, self.zero_point, self.axis, *self.limits

    def quantize_dequantize(self, x: torch.Tensor) -> torch.Tensor:
        # These operators, not torch.fake_quantize: the converted graph calls them.
        whole = "tensor" if self.axis is None else "channel"
        kind = {} if x.dtype == torch.float32 else {"out_dtype": x.dtype}
        codes = getattr(DECOMPOSED, f"quantize_per_{whole}")(x, *self._arguments)
        return getattr(DECOMPOSED, f"dequantize_per_{whole}")(codes, *self._arguments, **kind)


class Switch(nn.Module):
    """One quantize/dequantize pair of one reader, which can be switched off.

    Attributes
    ----------
    on : bool
        Off, it gives its input.
    layer : str
        The conv or linear that it belongs to; empty for an operator that belongs to none.
    kind : str
        ``activation`` or ``weight`` of that layer, or ``other``: what is added to the layer's
        output in the same int8 kernel, or a pool or concatenation behind the layer.
    reader, source : str
        Names of the node that reads the quantized value, and of the one that gives it.
    scale, zero_point : torch.Tensor
        ``[1]``, or ``[out_channels]`` of a weight.
    quant_min, quant_max : int
        Smallest and largest code.
    axis : int or None
        Axis of the channels; None for one scale.
    """

    def __init__(self, parameters: _Pair, layer: str, kind: str, reader: str, source: str) -> None:
        super().__init__()
        self.on = True
        self.layer, self.kind, self.reader, self.source = layer, kind, reader, source
        self.scale, self.zero_point = parameters.scale, parameters.zero_point
        self.quant_min, self.quant_max, _ = parameters.limits
        self.axis = parameters.axis
        self._pair = parameters
        self._constant: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the value that the codes stand for, or `x` itself."""
        if not self.on:
            return x
        if self.kind != "weight":
            return self.quantize_dequantize(x)
        if self._constant is None:  # a weight is quantized once
            self._constant = self.quantize_dequantize(x)
        return self._constant

    def quantize_dequantize(self, x: torch.Tensor) -> torch.Tensor:
        """Give the value that the codes stand for, switched on or off."""
        return self._pair.quantize_dequantize(x)


class Switchable:
    """A calibrated model whose quantizers can be switched off and on.

    Every observer becomes one switch for each operator that reads it. All on, the output is that
    of ``convert_pt2e``; all off, it is that of the prepared model: both bit for bit.

    Parameters
    ----------
    prepared : torch.fx.GraphModule
        From ``prepare_pt2e``, calibrated. Not changed, but its weights are shared.

    Attributes
    ----------
    model : torch.fx.GraphModule
        Takes what was captured. All switches are on at first.
    switches : tuple of Switch
        In graph order.
    layers : tuple of str
        Convs and linears with an int8 input and weight, in graph order.

    Raises
    ------
    SensitivityError
        If there are no observers, or one has seen nothing or is dynamic.
    """

    def __init__(self, prepared: fx.GraphModule) -> None:
        shared = {id(parameter): parameter for parameter in prepared.parameters()}
        self.model = copy.deepcopy(prepared, shared)
        self.switches = tuple(_put_switches(self.model))
        if not self.switches:
            raise SensitivityError(
                "The model has no observers: there is nothing to switch.",
                "Pass the model between calibrate and convert_pt2e, quantized in part at least.",
            )
        self.model.delete_all_unused_submodules()
        self.model.recompile()
        quantized = {s.layer for s in self.switches if s.kind == "weight"}
        self.layers = tuple(name for name in layer_names(self.model) if name in quantized)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run as it is switched now, without gradients."""
        with torch.no_grad():
            return self.model(*inputs)

    def all_off(self):
        """Switch all off: the model in floating point, BatchNorm folded. Use in ``with``."""
        return self._switched(lambda switch: False)

    def only(self, names: Iterable[str], kinds: Iterable[str] = KINDS):
        """Leave on only the quantizers of these layers and kinds. Use in ``with``.

        An empty name stands for what belongs to no layer.

        Raises
        ------
        RecipeError
            For a name that is not in `layers`, with the nearest.
        """
        names, kinds = self._checked(names, kinds)
        return self._switched(lambda switch: switch.layer in names and switch.kind in kinds)

    def all_but(self, names: Iterable[str], kinds: Iterable[str] = KINDS):
        """Switch off the quantizers of these layers and kinds only. Use in ``with``.

        An empty name stands for what belongs to no layer.

        Raises
        ------
        RecipeError
            For a name that is not in `layers`, with the nearest.
        """
        names, kinds = self._checked(names, kinds)
        return self._switched(lambda switch: switch.layer not in names or switch.kind not in kinds)

    def _checked(self, names: Iterable[str], kinds: Iterable[str]) -> tuple[tuple, tuple]:
        if isinstance(names, str):
            names = (names,)
        names, kinds = tuple(names), tuple(kinds)
        named = [name for name in names if name]
        refuse_unknown(named, self.layers, what="layer of this model")
        refuse_unknown(kinds, KINDS, what="kind")
        return names, kinds

    @contextmanager
    def _switched(self, wanted: Callable[[Switch], bool]) -> Iterator[fx.GraphModule]:
        before = [switch.on for switch in self.switches]
        try:
            for switch in self.switches:
                switch.on = wanted(switch)
            yield self.model
        finally:
            for switch, on in zip(self.switches, before, strict=True):
                switch.on = on


def _put_switches(model: fx.GraphModule) -> Iterator[Switch]:
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters: dict[int, _Pair] = {}  # a shared observer is asked once
    for node in list(model.graph.nodes):
        observer = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(observer, ObserverBase):
            continue
        source = node.args[0]
        if observer.dtype.is_floating_point:  # a placeholder for a bias: convert removes it, too
            node.replace_all_uses_with(source)
        else:
            if id(observer) not in parameters:
                parameters[id(observer)] = _read(observer, node.target)
            for number, reader in enumerate(list(node.users)):
                switch = Switch(
                    parameters[id(observer)], *_owner(node, reader), reader.name, source.name
                )
                name = f"switch_{node.name}_{number}"
                model.add_submodule(name, switch)
                # Here, not before its reader: what is computed in place must stay in order.
                with model.graph.inserting_before(node):
                    reader.replace_input_with(node, model.graph.call_module(name, (source,)))
                yield switch
        model.graph.erase_node(node)


def _read(observer: ObserverBase, name: str) -> _Pair:
    lowest = getattr(observer, "min_val", torch.zeros(1))
    if getattr(observer, "is_dynamic", False):
        fix = "Quantize with a static configuration (is_dynamic=False)."
        raise SensitivityError(f"{name} is dynamic: its scale changes with each input.", fix)
    if lowest.numel() == 0 or not torch.isfinite(lowest).all():
        fix = "Run calibrate(prepared, batches) first."
        raise SensitivityError(f"{name} has seen no values, so it has no scale.", fix)
    scale, zero_point = observer.calculate_qparams()
    per_channel = observer.qscheme in (torch.per_channel_symmetric, torch.per_channel_affine)
    return _Pair(
        scale,
        zero_point,
        (observer.quant_min, observer.quant_max, observer.dtype),
        observer.ch_axis if per_channel else None,
    )


def _owner(node: fx.Node, reader: fx.Node) -> tuple[str, str]:
    """Name of the layer that a quantizer belongs to, and its kind."""
    if layer_kind(reader):
        kind = "weight" if reader.args[1] is node else "activation"
        return layer_name(reader), kind
    operator = getattr(reader.target, "_opname", "")
    if operator in ("add", "add_"):
        # Fused with the layer whose output it is added to: without that layer it is not quantized.
        others = [n for n in reader.all_input_nodes if n is not node and layer_kind(n)]
        return (layer_name(others[0]) if others else ""), "other"
    if operator in ("mul", "mul_"):
        return "", "other"  # upstream quantizes its inputs whatever gives them
    return _layer_before(node), "other"


def _layer_before(node: fx.Node) -> str:
    """Nearest conv or linear on the way up: upstream follows its int8 output to a pool."""
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        if layer_kind(node):
            return layer_name(node)
    return ""
