"""Read a captured or converted graph: its convs and linears, and how often each operator occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from xpuqlib.recipe.compilation import Int8Call
from xpuqlib.recipe.layers import calling_class, layer_kind, layer_name, parameter_path

__all__ = [
    "Layer",
    "count_operators",
    "how_to_quantize",
    "match_calls",
    "quantizable_layers",
]

UNSUPPORTED = "XPUInductorQuantizer does not quantize"
ON_PURPOSE = "the quantizer was told to keep it in floating point"
AS_FUNCTION = "calls it as a function, so the quantizer sees no module"
FAST_PATH = "PyTorch's fast path: one operator for all of it"
FUSED = ("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
EXPECTED = (UNSUPPORTED, ON_PURPOSE)  # how reasons begin that speak of no mistake
FOLDED = "it reads constants only: Inductor computes it once, when it compiles"


@dataclass(frozen=True)
class Layer:
    """A conv or linear of a graph.

    Attributes
    ----------
    name, kind : str
        Module path in the model, ``conv`` or ``linear``.
    scale : torch.Tensor or None
        Scale of its int8 weight, ``[out_channels]``; None if input or weight are not quantized.
    reason : str
        Why it is not quantized, where that is known.
    constant : bool
        Whether nothing that it reads depends on the model's inputs.
    """

    name: str
    kind: str
    scale: torch.Tensor | None
    reason: str
    constant: bool = False


def count_operators(graph_module: fx.GraphModule) -> dict[str, int]:
    """How often each operator is called, most frequent first, then by name."""
    called = [str(node.target) for node in graph_module.graph.nodes if node.op == "call_function"]
    return dict(Counter(sorted(called)).most_common())  # in the order given where counts are equal


def quantizable_layers(graph_module: fx.GraphModule) -> list[Layer]:
    """Convs and linears in graph order, those of nested graphs and of fused attention included."""
    layers = []
    for path, graph in graph_module.named_modules():
        if not isinstance(graph, fx.GraphModule) or path.endswith("_guards_fn"):
            continue
        fed = _fed_by_inputs(graph.graph)
        for node in graph.graph.nodes:
            kind = layer_kind(node)
            if getattr(node.target, "_opname", "") in FUSED:
                layers += _fused_layers(graph, node)
            if kind is None:
                continue
            operator, scale = node.target._opname, _weight_scale(graph, node)
            if scale is not None:
                reason = ""
            elif "transpose" in operator or operator == "conv3d":
                reason = f"{UNSUPPORTED} {operator}"
            elif _is_kept(node):
                reason = ON_PURPOSE
            elif path:
                reason = f"inside {path}, a nested graph that the quantizer does not enter"
            elif caller := calling_class(node):
                reason = f"nn.{caller} {AS_FUNCTION}"
            else:
                reason = "the quantizer did not annotate it"
            layers.append(Layer(layer_name(node), kind, scale, reason, node not in fed))
    return layers


def how_to_quantize(reasons: Iterable[str]) -> str:
    """Say what to do about layers that are not quantized, for these reasons."""
    if any(reason.endswith((AS_FUNCTION, FAST_PATH)) for reason in reasons):
        return "Capture xpuqlib.recipe.rewrite_attention(model): the same attention, of modules."
    return (
        "Capture with xpuqlib.recipe.capture: strict export, under no_grad, without "
        "@torch.no_grad() on forward; call set_global(...) on the quantizer."
    )


def match_calls(layers: list[Layer], calls: Sequence[Int8Call]) -> list[Int8Call | None]:
    """Find for each layer the call that uses its weight scale; no call is taken twice."""
    free = list(calls)
    taken = []
    for layer in layers:
        taken.append(next((call for call in free if _uses(call, layer)), None))
        free = [call for call in free if call is not taken[-1]]
    return taken


def _fused_layers(graph: fx.GraphModule, node: fx.Node) -> list[Layer]:
    weights = [n for n in node.all_input_nodes if n.op == "get_attr" and parameter_path(n)]
    linear = [n for n in weights if graph.get_parameter(n.target).dim() == 2]  # no LayerNorm
    reason = f"inside {node.target}, {FAST_PATH}"
    return [Layer(parameter_path(n), "linear", None, reason) for n in linear]


def _fed_by_inputs(graph: fx.Graph) -> set[fx.Node]:
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not fed.isdisjoint(node.all_input_nodes):
            fed.add(node)
    return fed


def _is_kept(node: fx.Node) -> bool:
    # Upstream annotates what it was told to leave alone, with nothing to quantize.
    annotation = node.meta.get("quantization_annotation")
    return annotation is not None and annotation._annotated and not annotation.input_qspec_map


def _weight_scale(graph: fx.GraphModule, node: fx.Node) -> torch.Tensor | None:
    for argument, whole in zip(node.args, ("tensor", "channel"), strict=False):
        quantized = f"quantized_decomposed.dequantize_per_{whole}"
        if not str(getattr(argument, "target", "")).startswith(quantized):
            return None
    return getattr(graph, node.args[1].args[1].target)  # convert_pt2e puts constants at the top


def _uses(call: Int8Call, layer: Layer) -> bool:
    named = layer.scale is not None and call.operator.startswith(f"q{layer.kind}")
    return named and any(
        not constant.is_mkldnn
        and constant.dtype == layer.scale.dtype
        and torch.equal(constant.flatten().to(layer.scale.device), layer.scale.flatten())
        for constant in call.constants.values()
    )
