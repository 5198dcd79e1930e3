"""Exact graph rewrites for lowering: each one leaves the output the same, bit for bit."""

from __future__ import annotations

import torch
from torch import fx

from xpuqlib.errors import LoweringError

__all__ = ["quantize_above_max_pool", "signed_to_unsigned"]

OFFSET = 128  # from int8 (-128…127) to uint8 (0…255)


def signed_to_unsigned(graph_module: fx.GraphModule) -> int:
    """Rewrite int8 activations of a converted graph as uint8, in place.

    oneDNN's CPU kernels want uint8 activations, the XPU quantizer annotates int8. With
    ``q = clamp(round(x / s) + z, -128, 127)`` and ``q' = clamp(round(x / s) + z + 128, 0, 255)``,
    ``q' = q + 128`` for every x, so ``(q' - (z + 128)) * s`` and ``(q - z) * s`` are the same
    number: the integers are equal before the only rounding, that of the product.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        From ``convert_pt2e``. Weights (per channel) stay as they are.

    Returns
    -------
    int
        Number of quantize and dequantize nodes rewritten; 0 for a graph without int8 activations.

    Raises
    ------
    LoweringError
        If an int8 activation flows into another operator than the dequantize of its own zero
        point: the rewrite would change what that operator sees.
    """
    ops = torch.ops.quantized_decomposed
    quantize, dequantize = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    signed = [
        node
        for node in graph_module.graph.nodes
        if node.target in (quantize, dequantize) and node.args[5] == torch.int8
    ]
    for node in signed:
        neighbours = list(node.users) if node.target is quantize else [node.args[0]]
        for other in neighbours:
            if other not in signed or other.args[1:6] != node.args[1:6]:
                raise LoweringError(
                    f"{node.name} and {other.name} do not share one scale and zero point.",
                    "Only quantize–dequantize pairs of convert_pt2e can be lowered on a CPU.",
                )
    for node in signed:
        x, scale, zero_point, low, high, _ = node.args[:6]
        node.args = (x, scale, zero_point + OFFSET, low + OFFSET, high + OFFSET, torch.uint8)
    graph_module.recompile()
    return len(signed)


def quantize_above_max_pool(graph_module: fx.GraphModule) -> int:
    """Quantize what goes into a max-pool as its output is quantized, in place.

    The XPU quantizer leaves a max-pool between a convolution and a quantize in floating point.
    Quantize and dequantize never decrease, so they commute with a maximum:
    ``dq(q(max(x))) = max(dq(q(x)))``, bit for bit, and quantizing that result once more changes
    nothing. The convolution before the pool can then write int8 itself. Padding does not matter
    (each window holds at least one real element), NaN does: a maximum keeps it, int8 cannot.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        From ``convert_pt2e``.

    Returns
    -------
    int
        Number of max-pools rewritten. One is left alone if its input is quantized already, or
        unless every user quantizes it with the same scale, zero point and range.
    """
    ops = torch.ops.quantized_decomposed
    quantize, dequantize = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    rewritten = 0
    for pool in list(graph_module.graph.nodes):
        if pool.target is not torch.ops.aten.max_pool2d.default or not pool.users:
            continue
        source = pool.args[0]
        settings = {user.args[1:] if user.target is quantize else None for user in pool.users}
        if source.target is dequantize or None in settings or len(settings) > 1:
            continue
        [arguments] = settings
        with graph_module.graph.inserting_before(pool):
            codes = graph_module.graph.call_function(quantize, (source, *arguments))
            values = graph_module.graph.call_function(dequantize, (codes, *arguments))
        pool.replace_input_with(source, values)
        rewritten += 1
    graph_module.recompile()
    return rewritten
