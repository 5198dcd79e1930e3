"""Exact graph rewrites for upstream's passes: each one leaves the output the same, bit for bit."""

from __future__ import annotations

import math
from itertools import takewhile
from operator import attrgetter

import torch
from torch import fx

from xpuqlib.errors import LoweringError
from xpuqlib.recipe.layers import layer_kind

__all__ = [
    "fold_changed_biases",
    "keep_batch_norms",
    "keep_cats_floating",
    "keep_max_pools_floating",
    "quantize_above_max_pool",
    "signed_to_unsigned",
]

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
        for other in node.users if node.target is quantize else node.args[:1]:
            if other.op == "get_attr":  # convert_pt2e has quantized a constant: see below
                continue
            if other not in signed or other.args[1:6] != node.args[1:6]:
                cause = f"{node.name} and {other.name} do not share one scale and zero point."
                fix = "Only quantize–dequantize pairs of convert_pt2e can be lowered on a CPU."
                raise LoweringError(cause, fix)
    for node in signed:
        x, scale, zero_point, low, high, _ = node.args[:6]
        if x.op == "get_attr" and node.target is dequantize:
            x = _unsigned_constant(graph_module, x)
        node.args = (x, scale, zero_point + OFFSET, low + OFFSET, high + OFFSET, torch.uint8)
    graph_module.recompile()
    return len(signed)


def _unsigned_constant(graph_module: fx.GraphModule, codes: fx.Node) -> fx.Node:
    signed, name = attrgetter(codes.target)(graph_module), f"{codes.name}_unsigned"
    graph_module.register_buffer(name, (signed.to(torch.int16) + OFFSET).to(torch.uint8))
    with graph_module.graph.inserting_after(codes):
        return graph_module.graph.get_attr(name)


def quantize_above_max_pool(graph_module: fx.GraphModule, everywhere: bool = True) -> int:
    """Quantize what goes into a max-pool as its output is quantized, in place.

    The XPU quantizer leaves a max-pool between a convolution and a quantize in floating point.
    Quantize and dequantize never decrease, so they commute with a maximum:
    ``dq(q(max(x))) = max(dq(q(x)))``, bit for bit, and quantizing that result once more changes
    nothing. The convolution before the pool can then write int8 itself. Padding does not matter
    (each window holds at least one real element), NaN does: a maximum keeps it, int8 cannot.

    Where the input has been dequantized, this is no matter of speed. Inductor turns dequantize,
    max-pool, quantize into one int8 max-pool without a look at the scales, and drops `ceil_mode`
    (torch 2.8 to 2.15): the result would be wrong, and nothing would say so.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        From ``convert_pt2e``.
    everywhere : bool
        Also where the input is in floating point; if not, only where Inductor would be wrong.

    Returns
    -------
    int
        Number of max-pools rewritten. One is left alone unless every user quantizes it with the
        same scale, zero point and range.
    """
    ops = torch.ops.quantized_decomposed
    quantize, dequantize = ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default
    rewritten = 0
    for pool in reversed(list(graph_module.graph.nodes)):  # a pool's user may be a pool
        if pool.target is not torch.ops.aten.max_pool2d.default or not pool.users:
            continue
        source = pool.args[0]
        settings = {user.args[1:] if user.target is quantize else None for user in pool.users}
        if None in settings or len(settings) > 1:
            continue
        [arguments], floating = settings, source.target is not dequantize
        if floating and not everywhere:
            continue
        with graph_module.graph.inserting_before(pool):
            padded = _pad_for_ceil_mode(graph_module.graph, pool)
            if floating or padded is not source or source.args[1:] != arguments:
                codes = graph_module.graph.call_function(quantize, (padded, *arguments))
                values = graph_module.graph.call_function(dequantize, (codes, *arguments))
                pool.replace_input_with(source, values)
                rewritten += 1
    graph_module.recompile()
    return rewritten


def keep_max_pools_floating(graph_module: fx.GraphModule) -> None:
    """Keep Inductor from making int8 max-pools, in place, for a device that has no such kernel.

    It would make them of dequantize, max-pool, quantize, and fail when they are called.
    """
    for pool in list(graph_module.graph.nodes):
        if pool.target is torch.ops.aten.max_pool2d.default:
            _bound(graph_module.graph, pool, pool.args[0])
    graph_module.recompile()


def keep_cats_floating(graph_module: fx.GraphModule) -> int:
    """Keep Inductor from making int8 concatenations of dequantize, cat, quantize, in place.

    For a GPU it cannot write what it has made of them: an AssertionError in torch 2.8 and 2.11,
    mended in 2.15. A DenseNet concatenates before each layer. Gives the number that is kept.
    """
    dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor.default
    kept = 0
    for cat in list(graph_module.graph.nodes):
        if cat.target is torch.ops.aten.cat.default and cat.args[0][0].target is dequantize:
            _bound(graph_module.graph, cat, cat.args[0][0])
            kept += 1
    graph_module.recompile()
    return kept


def _bound(graph: fx.Graph, node: fx.Node, source: fx.Node) -> None:
    """Put a bound of minus infinity before a node: it changes no value, and hides a pattern."""
    with graph.inserting_before(node):
        bounded = graph.call_function(torch.ops.aten.clamp_min.default, (source, -math.inf))
    node.replace_input_with(source, bounded)


def _pad_for_ceil_mode(graph: fx.Graph, pool: fx.Node) -> fx.Node:
    """Take `ceil_mode` off a pool; what its last windows reach beyond the input becomes padding."""
    source = pool.args[0]
    if len(pool.args) < 6 or not pool.args[5]:
        return source
    shaped = source
    while "val" not in shaped.meta:  # quantize and dequantize keep the shape
        shaped = shaped.args[0]
    sizes, outputs = (node.meta["val"].shape[2:] for node in (shaped, pool))
    kernels, strides = pool.args[1], pool.args[2] or pool.args[1]
    beyond = [
        (out - 1) * stride + dilation * (kernel - 1) + 1 - size - 2 * padding
        for size, out, kernel, stride, padding, dilation in zip(
            sizes, outputs, kernels, strides, *pool.args[3:5], strict=True
        )
    ]
    pool.args = pool.args[:5]
    if max(beyond) <= 0:
        return source
    amounts = [0, max(0, beyond[1]), 0, max(0, beyond[0])]
    return graph.call_function(torch.ops.aten.constant_pad_nd.default, (source, amounts, -math.inf))


def fold_changed_biases(graph_module: fx.GraphModule) -> int:
    """Compute each bias that is a changed copy of a parameter once, in place.

    Swin v2 copies the bias of its attention at each call, and sets a third of the copy to zero.
    Where such a layer becomes an int8 kernel, torch 2.15 cannot compile the model:
    "FakeTensorUpdater cannot recompute metadata". The copy depends on the parameter alone.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        From ``convert_pt2e``.

    Returns
    -------
    int
        Number of layers that have a constant bias now. One is left alone if something else reads
        the copy, or if the copy depends on something else.
    """
    graph, folded = graph_module.graph, 0
    for layer in list(graph.nodes):
        bias = layer.args[2] if layer_kind(layer) and len(layer.args) > 2 else None
        if bias is None or bias.target is not torch.ops.aten.clone.default:
            continue
        changes = _made_of(bias, layer)
        sources = {source for node in changes for source in node.all_input_nodes}
        readers = {reader for node in changes for reader in node.users}
        if bias.args[0].op != "get_attr" or sources - {bias.args[0], *changes}:
            continue
        if readers - {layer, *changes}:
            continue
        name = f"{bias.name}_folded"
        graph_module.register_buffer(name, _computed(graph_module, changes))
        with graph.inserting_before(layer):
            layer.replace_input_with(bias, graph.get_attr(name))
        for node in reversed(changes):
            graph.erase_node(node)
        folded += 1
    graph_module.recompile()
    return folded


def _made_of(first: fx.Node, last: fx.Node) -> list[fx.Node]:
    """Give a node, and all before another one that read it or what was made of it."""
    made = [first]
    for node in takewhile(lambda node: node is not last, first.graph.nodes):
        if any(source in made for source in node.all_input_nodes):
            made.append(node)
    return made


def _computed(graph_module: fx.GraphModule, changes: list[fx.Node]) -> torch.Tensor:
    """Run nodes on the parameter that the first one copies, and give the copy as they leave it."""
    copied, *others = changes
    parameter = attrgetter(copied.args[0].target)(graph_module)
    values = {copied: parameter.detach().clone()}
    for node in others:
        values[node] = node.target(*fx.map_arg(node.args, values.__getitem__), **node.kwargs)
    return values[copied]


def keep_batch_norms(graph_module: fx.GraphModule) -> int:
    """Keep `prepare_pt2e` from folding a batch norm where others would see it, in place.

    It folds each batch norm into weights and bias of the convolution before it, torchao also of
    a linear layer. Who else reads the output of that layer, or one of its parameters, then gets
    other values (torch 2.8 to 2.15), and nothing says so. The first shortcut of MaxViT does. A
    copy between the two changes no value, and hides them from each other: that batch norm stays
    in floating point.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        As `torch.export` captured it.

    Returns
    -------
    int
        Number of batch norms that are kept.
    """
    norms = ("batch_norm", "_native_batch_norm_legit_no_training")
    nodes = list(graph_module.graph.nodes)
    read = [node.target for x in nodes for node in x.all_input_nodes if node.op == "get_attr"]
    kept = 0
    for norm in nodes:
        if getattr(norm.target, "_opname", "") not in norms or not layer_kind(norm.args[0]):
            continue
        layer = norm.args[0]
        own = [node.target for node in layer.all_input_nodes if node.op == "get_attr"]
        if len(layer.users) > 1 or any(read.count(name) > 1 for name in own):
            with graph_module.graph.inserting_before(norm):
                copied = graph_module.graph.call_function(torch.ops.aten.clone.default, (layer,))
            norm.replace_input_with(layer, copied)
            # Not the source of the layer: the quantizer would take the copy for a part of it.
            for key in ("val", "nn_module_stack"):
                copied.meta[key] = norm.meta[key]
            kept += 1
    graph_module.recompile()
    return kept
