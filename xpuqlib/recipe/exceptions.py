"""What stays in floating point: layers by upstream's own means, and activations, which it lacks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from xpuqlib.recipe.layers import layer_kind, module_paths, refuse_unknown
from xpuqlib.recipe.pt2e import XPUInductorQuantizer, annotate_nodes_not_quantize

__all__ = ["SelectiveQuantizer", "activation_nodes", "keep_in_float"]


def keep_in_float(
    quantizer: XPUInductorQuantizer, captured: fx.GraphModule, names: Iterable[str]
) -> None:
    """Call ``quantizer.set_module_name_qconfig(name, None)`` for layers that are in the graph.

    Upstream accepts a name that matches nothing in silence. It also compares the text of the
    graph, which for some models is an expression such as ``getattr(L['fn'], '0')``.

    Parameters
    ----------
    quantizer : XPUInductorQuantizer
        Changed in place.
    captured : torch.fx.GraphModule
        From `xpuqlib.recipe.capture`.
    names : iterable of str
        Module paths, such as ``layer1.0.conv2``, or ``layer1`` for all layers in it.

    Raises
    ------
    RecipeError
        For a name that no conv or linear of the graph stands in, with the nearest.
    """
    texts: dict[str, set[str]] = {}
    for node in captured.graph.nodes:
        if layer_kind(node):
            for text, path in module_paths(node).items():
                texts.setdefault(path, set()).add(text)
    names = [names] if isinstance(names, str) else list(names)
    texts.pop("", None)  # the whole model
    refuse_unknown(names, list(texts), what="layer of this model")
    for name in names:
        for text in texts[name]:
            quantizer.set_module_name_qconfig(text.removeprefix("L['self']."), None)


def activation_nodes(graph_module: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Activations by name: by that of the node, and by that of each module that gives them.

    A module gives what is computed in it and read outside of it.
    """
    found: dict[str, list[fx.Node]] = {}
    for node in graph_module.graph.nodes:
        if node.op not in ("call_function", "placeholder"):
            continue
        found[node.name] = [node]
        for path in module_paths(node).values():
            inside = [path in module_paths(reader).values() for reader in node.users]
            if path and not all(inside):
                found.setdefault(path, []).append(node)
    return found


class SelectiveQuantizer(XPUInductorQuantizer):
    """``XPUInductorQuantizer`` that can also leave single activations in floating point.

    Upstream's names stand for layers: ``set_module_name_qconfig(name, None)`` leaves a conv in
    floating point, but quantizes what it gives to the next one. Here
    ``set_activation_float(name)`` leaves alone what the module gives: no operator that reads it
    is quantized, neither its inputs nor its weight, since no kernel takes one of them in int8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.float_activations: list[str] = []

    def set_activation_float(self, name: str) -> SelectiveQuantizer:
        """Leave what a module gives in floating point.

        Parameters
        ----------
        name : str
            Path of the module, such as ``features.0``, or the name of a node of the graph, such
            as ``relu_1`` or the input ``x``.
        """
        self.float_activations.append(name)
        return self

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Annotate as upstream does, after the readers of these activations were taken out.

        Raises
        ------
        RecipeError
            For a name that is not in the graph, in which BatchNorm is folded by now.
        """
        if not self.float_activations:
            return super().annotate(model)
        known = activation_nodes(model)
        what = "activation of this model"
        refuse_unknown(self.float_activations, list(known), what=what)
        given = [node for name in self.float_activations for node in known[name]]
        for node in given:
            # Upstream passes over a pattern in which one node was annotated before.
            annotate_nodes_not_quantize([r for r in node.users if r.op == "call_function"])
        annotated = super().annotate(model)
        for node in given:
            annotation = node.meta.get("quantization_annotation")
            if annotation:  # a pool or concatenation also quantizes what it gives
                annotation.output_qspec = None
        return annotated
