"""The int8 calls of a program: which layer each one is, what it reads, writes and does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from xpuqlib.errors import DraftError
from xpuqlib.proof.graph import match_calls, quantizable_layers
from xpuqlib.recipe.compilation import Compilation, Int8Call, dtype_name

__all__ = [
    "DraftedCall",
    "describe_calls",
    "int8_arguments",
    "is_int8_call",
    "rename_arguments",
    "with_values",
]

_INT8_NODE = re.compile(r"onednn\.q(conv|linear)\w*_pointwise")

# What oneDNN's linears call otherwise than its convolutions.
_SAME = {
    "post_op_name": "attr",
    "post_op_args": "scalars",
    "post_op_algorithm": "algorithm",
    "other": "qaccum",
    "other_scale": "accum_scale",
    "other_zp": "accum_zero_point",
    "binary_post_op": "binary_attr",
    "unary_post_op": "unary_attr",
    "unary_post_op_args": "unary_scalars",
    "unary_post_op_algorithm": "unary_algorithm",
}


@dataclass(frozen=True)
class DraftedCall:
    """One int8 operator of the program.

    Attributes
    ----------
    layer : str
        The conv or linear in the model, found by its weight's scale; empty if it is none of them.
    operator : str
        As in ``torch.ops.onednn``, such as ``qconv_pointwise``.
    weight : str
        Name of its weight among the constants.
    reads, writes : str
        Dtype of its input and output; ``int8`` is signed on an XPU.
    adds : str
        Dtype of the tensor that it adds, and that ``sum`` overwrites; empty if it adds none.
    input_zero_point, output_zero_point : int
    post_operators : tuple of str
        What the kernel does with the sum of products before it rounds, such as ``sum``, ``relu``.
    """

    layer: str
    operator: str
    weight: str
    reads: str
    writes: str
    adds: str
    input_zero_point: int
    output_zero_point: int
    post_operators: tuple[str, ...]


def is_int8_call(node: fx.Node) -> bool:
    """Tell whether a node is one of oneDNN's int8 convolutions or linears."""
    return node.op == "call_function" and bool(_INT8_NODE.match(str(node.target)))


def int8_arguments(node: fx.Node, arguments: Sequence | None = None) -> dict[str, Any]:
    """Name the arguments of an int8 operator, those of linears as those of convolutions.

    Parameters
    ----------
    node : torch.fx.Node
    arguments : sequence, optional
        Their values; by default the node's own, which are nodes, too.
    """
    names = [argument.name for argument in node.target._schema.arguments]
    return rename_arguments(names, node.args if arguments is None else arguments)


def rename_arguments(names: Sequence[str], values: Sequence) -> dict[str, Any]:
    """Pair the arguments of an int8 operator with the names that convolutions have for them."""
    return {_SAME.get(name, name): value for name, value in zip(names, values, strict=False)}


def describe_calls(
    converted: fx.GraphModule,
    compilation: Compilation,
    graph: fx.Graph,
    constants: dict[str, torch.Tensor],
) -> tuple[DraftedCall, ...]:
    """Say of each int8 call in a program which layer it is, and what it reads and writes.

    Parameters
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``: its layers are recognized by the scales of their weights.
    compilation, graph
        From `write_program`.
    constants : dict of str to torch.Tensor
        The values of the graph's constants.

    Raises
    ------
    DraftError
        If a call cannot be found in the graph.
    """
    layers, calls = quantizable_layers(converted), with_values(compilation.generated, constants)
    matched = zip(layers, match_calls(layers, calls), strict=True)
    names = {id(call): layer.name for layer, call in matched if call}
    nodes = {int8_arguments(node)["qw"].target: node for node in graph.nodes if is_int8_call(node)}
    found = []
    for call in calls:
        weights = nodes.keys() & call.constants.keys()
        if len(weights) != 1:
            cause = f"A call of {call.operator} in the program has no weight of its own."
            raise DraftError(cause, "Report the model: it cannot be followed from layer to call.")
        found.append(_described(call.operator, names.get(id(call), ""), nodes[weights.pop()]))
    return tuple(found)


def with_values(
    calls: Sequence[Int8Call], constants: dict[str, torch.Tensor]
) -> tuple[Int8Call, ...]:
    """Give calls the values of their constants, which had none when the program was written."""
    return tuple(
        Int8Call(call.operator, {name: constants[name] for name in call.constants})
        for call in calls
    )


def _described(operator: str, layer: str, node: fx.Node) -> DraftedCall:
    given = int8_arguments(node)
    added = given.get("qaccum")
    post_operators = (given.get(name) for name in ("attr", "binary_attr", "unary_attr"))
    return DraftedCall(
        layer=layer,
        operator=operator,
        weight=given["qw"].target,
        reads=dtype_name(given["qx"]),
        writes=dtype_name(node),
        adds="" if added is None else dtype_name(added),
        input_zero_point=given["x_zero_point"],
        output_zero_point=given["output_zero_point"],
        post_operators=tuple(name for name in post_operators if name not in (None, "none")),
    )
