"""The graph of a draft, executed on the CPU: oneDNN's int8 calls in exact whole numbers."""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas
import torch
import torch.nn.functional as F
from torch import fx, nn

from xpuqlib.errors import DraftError
from xpuqlib.proof.closeness import flat_output, node_outputs
from xpuqlib.proof.draft import Draft
from xpuqlib.proof.fake_constants import FUSED_ATTENTION, FakeConstants
from xpuqlib.proof.int8_calls import (
    DraftedCall,
    describe_calls,
    int8_arguments,
    is_int8_call,
)
from xpuqlib.proof.program import write_program
from xpuqlib.proof.stand_ins import exact_int8
from xpuqlib.recipe.layers import layer_kind, layer_name
from xpuqlib.recipe.lowering import rewrite_for
from xpuqlib.recipe.passes import OFFSET

__all__ = [
    "Simulation",
    "compare_codes",
    "reference_codes",
    "rehearsed_codes",
    "simulate",
]

_QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
_DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
_MAX_POOL = re.compile(r"max_pool(2d)?_with_(indices|offsets)")
_INT8_MAX_POOL = re.compile(r"= torch\.ops\.quantized\.max_pool2d")


@dataclass(frozen=True)
class Simulation:
    """What a draft's graph gives when its int8 calls are computed exactly.

    Attributes
    ----------
    output : torch.Tensor
        float32 ``[batch, values]`` on the CPU.
    codes : dict of str to torch.Tensor
        What each int8 call wrote, int8, by the name of its layer; calls that write floating point
        are not in it.
    """

    output: torch.Tensor
    codes: dict[str, torch.Tensor]


def simulate(draft: Draft, inputs: tuple[torch.Tensor, ...]) -> Simulation:
    """Run the graph that a draft was written from, on the CPU.

    An int8 call is computed as oneDNN documents it: products of whole numbers summed without
    rounding, scales and bias applied, post-operators, one rounding half to even, zero point,
    clamp. What follows the sum is computed in float64 here, which oneDNN's own kernel need not do:
    a value nearly halfway between two codes may fall to either side. All else runs in PyTorch.

    Parameters
    ----------
    draft : Draft
    inputs : tuple of torch.Tensor
        Of the drafted shape; on any device.

    Raises
    ------
    DraftError
        If the inputs have another shape, or the graph holds a post-operator unknown here.
    """
    drafted = [list(node.meta["val"].shape) for node in draft.graph.find_nodes(op="placeholder")]
    given = [list(value.shape) for value in inputs]
    if given != drafted:
        raise DraftError(f"Drafted for inputs {drafted}, given {given}.", "Draft it for these.")
    graph = _as_in_the_program(draft)
    return _run(graph, draft.constants, draft.calls, inputs, exact_int8)


def _as_in_the_program(draft: Draft) -> fx.Graph:
    """Copy the graph, with int8 max-pools as Inductor makes them later: it looks at no scale."""
    graph, made = copy.deepcopy(draft.graph), 0
    for node in list(graph.nodes):
        taken = node.args[0] if node.target is operator.getitem else None
        if taken is None or not _MAX_POOL.search(str(taken.target)):
            continue
        users = [*taken.users, *taken.args[0].users, *node.users]
        quantize = next(iter(node.users))
        if (taken.args[0].target, quantize.target) == (_DEQUANTIZE, _QUANTIZE) and len(users) == 3:
            with graph.inserting_before(quantize):
                codes = taken.args[0].args[0]
                pooled = graph.call_function(_pool_codes, (codes, *taken.args[1:5]))
            quantize.replace_all_uses_with(pooled)
            made += 1
    graph.eliminate_dead_code()
    written = len(_INT8_MAX_POOL.findall(draft.compilation.code))
    if made != written:
        cause = f"The program has {written} int8 max-pools, its graph gives {made}"
        raise DraftError(f"{cause}: the simulation would be another program's.", "Report it.")
    return graph


def _pool_codes(codes: torch.Tensor, *window: Any) -> torch.Tensor:
    kernel, stride, padding, dilation = window
    pooled = F.max_pool2d(codes.double(), kernel, stride or kernel, padding, dilation)
    return pooled.to(codes.dtype)


def rehearsed_codes(
    converted: fx.GraphModule, inputs: tuple[torch.Tensor, ...]
) -> dict[str, torch.Tensor]:
    """Keep what the CPU's own int8 kernels write, call by call, in the codes of an XPU.

    The graph is that of `xpuqlib.recipe.lower` on a CPU with ``int8_max_pool=False``, and runs
    operator by operator.

    Returns
    -------
    dict of str to torch.Tensor
        int8, by the name of the layer: the CPU's uint8 codes less 128.
    """
    constants = FakeConstants("cpu")
    inputs = tuple(value.cpu() for value in inputs)
    rewritten, _ = rewrite_for("cpu", converted, int8_max_pool=False)
    compilation, graph = write_program(
        rewritten, inputs, constants, freezing=True, bf16_autocast=False
    )
    calls = describe_calls(converted, compilation, graph, constants.values)
    written = _run(graph, constants.values, calls, inputs, None).codes
    return {layer: (codes.short() - OFFSET).char() for layer, codes in written.items()}


def reference_codes(
    converted: fx.GraphModule, inputs: tuple[torch.Tensor, ...]
) -> dict[str, torch.Tensor]:
    """Run the Q/DQ graph, and keep the codes that follow each conv and linear.

    Parameters
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``.
    inputs : tuple of torch.Tensor
        Of the captured shape, on the device of the graph.

    Returns
    -------
    dict of str to torch.Tensor
        int8, by the name of the layer; a layer that nothing quantizes again is not in it.
    """
    quantizes = {}
    for node in converted.graph.nodes:
        if layer_kind(node) and (quantize := _next_quantize(node)):
            quantizes[layer_name(node)] = quantize
    kept = node_outputs(converted, inputs, lambda node: node in quantizes.values())
    return {layer: kept[quantize] for layer, quantize in quantizes.items()}


def compare_codes(
    codes: dict[str, torch.Tensor], others: dict[str, torch.Tensor]
) -> pandas.DataFrame:
    """Compare the codes of every layer that is in both.

    Returns
    -------
    pandas.DataFrame
        For each layer the share of equal codes (``equal``, 0…1) and the largest difference
        (``largest``, in codes). A difference in one layer goes on into the next ones.
    """
    rows = {}
    for layer in codes.keys() & others.keys():
        differences = (codes[layer].short() - others[layer].short()).abs()
        equal = (differences == 0).double().mean().item()
        rows[layer] = {"equal": equal, "largest": int(differences.max())}
    return pandas.DataFrame.from_dict(rows, orient="index").reindex(x for x in codes if x in rows)


def _next_quantize(node: fx.Node) -> fx.Node | None:
    """Find the quantize of what a layer gives; only its post-operators may stand between."""
    waiting, layer = [node], node
    while waiting:
        node = waiting.pop(0)
        if node.target is _QUANTIZE:
            return node
        waiting += [user for user in node.users if _same_shape(user, layer)]
    return None


def _same_shape(user: fx.Node, layer: fx.Node) -> bool:
    shapes = [node.meta["val"].shape for node in (user, layer) if "val" in node.meta]
    return not layer_kind(user) and len(set(shapes)) <= 1


class _Interpreter(fx.Interpreter):
    """Runs a graph with real constants on the CPU, and keeps what int8 calls write."""

    def __init__(self, graph: fx.Graph, constants: dict, int8: Callable | None) -> None:
        root = nn.Module()
        for node in graph.find_nodes(op="get_attr"):
            root.register_buffer(node.target, constants[node.target])
        super().__init__(fx.GraphModule(root, graph))
        self.int8, self.written = int8, {}

    def run_node(self, node: fx.Node) -> Any:
        if not is_int8_call(node):
            return super().run_node(node)
        if self.int8 is None:
            output = super().run_node(node)
        else:
            arguments = self.fetch_args_kwargs_from_env(node)[0]
            output = self.int8(**int8_arguments(node, arguments))
        if not output.is_floating_point():  # a later call may add to it in place
            self.written[int8_arguments(node)["qw"].target] = output.clone()
        return output

    def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
        if target is FUSED_ATTENTION:  # a CPU has no such kernel
            given = dict(zip(("attn_bias", "dropout_p", "is_causal"), args[3:], strict=False))
            mask = (given := given | kwargs).pop("attn_bias", None)
            return (F.scaled_dot_product_attention(*args[:3], mask, **given),)
        return super().call_function(
            target, args, kwargs | {"device": "cpu"} if "device" in kwargs else kwargs
        )


def _run(
    graph: fx.Graph,
    constants: dict[str, torch.Tensor],
    calls: Sequence[DraftedCall],
    inputs: tuple[torch.Tensor, ...],
    int8: Callable[..., torch.Tensor] | None,
) -> Simulation:
    interpreter = _Interpreter(graph, constants, int8)
    with torch.no_grad():
        output = interpreter.run(*(value.cpu() for value in inputs))
    written = interpreter.written
    codes = {call.layer: written[call.weight] for call in calls if call.weight in written}
    return Simulation(flat_output(output), codes)
