"""The convs and linears of a captured graph, by the names that the model gives them."""

from __future__ import annotations

import difflib
import operator
import re

from torch import fx

from xpuqlib.errors import RecipeError

__all__ = [
    "calling_class",
    "layer_kind",
    "layer_name",
    "layer_names",
    "module_path",
    "module_paths",
    "parameter_path",
    "refuse_unknown",
]


def layer_kind(node: fx.Node) -> str | None:
    """``conv`` or ``linear`` for a node that is one, else None."""
    if node.op != "call_function" or getattr(node.target, "namespace", None) != "aten":
        return None
    found = re.match("conv|linear$", node.target._opname)
    return found[0] if found else None


def module_path(node: fx.Node) -> str:
    """Path of the module that a node comes from, such as ``layer1.0.conv1``; empty if unknown."""
    paths = list(module_paths(node).values())
    return paths[-1] if paths else ""


def module_paths(node: fx.Node) -> dict[str, str]:
    """Paths of all modules that a node stands in, the outermost first, by upstream's own text."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return {text: _readable(text) for text, _ in stack}


def calling_class(node: fx.Node) -> str:
    """Name of the class of ``torch.nn`` that calls a linear layer as a function; empty if none.

    ``nn.MultiheadAttention`` does so. On torch 2.8 ``nn.TransformerEncoder`` and its like are
    captured as if they did so with all of their layers.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    kind = stack[-1][1] if stack else ""
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    found = re.fullmatch(r"torch\.nn\.modules\.(activation|transformer)\.(\w+)", name)
    return found[2] if found else ""


def layer_name(node: fx.Node) -> str:
    """Path of the module, or the node's own name for a functional call in the outermost one.

    What ``nn.MultiheadAttention`` calls as a function has the path of its weight, such as
    ``block.self_attention.in_proj``, with a number where it takes a part of it.
    """
    as_function = layer_kind(node) and calling_class(node)
    own = parameter_path(node.args[1]) if as_function else ""
    return own or module_path(node) or node.name


def parameter_path(weight: fx.Node) -> str:
    """Path of a parameter without the word weight; empty if the node does not come from one."""
    part, node = "", weight
    while node.op == "call_function" and isinstance(node.args[0], fx.Node):
        part = f"[{node.args[1]}]" if node.target is operator.getitem else part
        node = node.args[0]
    found = re.fullmatch(r"(.+)[._]weight", node.target) if node.op == "get_attr" else None
    return found[1] + part if found else ""


def layer_names(graph_module: fx.GraphModule) -> tuple[str, ...]:
    """Names of the convs and linears in graph order; a module that is called twice is one."""
    return tuple(dict.fromkeys(layer_name(n) for n in graph_module.graph.nodes if layer_kind(n)))


def refuse_unknown(
    names: list[str] | tuple[str, ...], known: list[str] | tuple[str, ...], *, what: str
) -> None:
    """Raise RecipeError with the nearest names for the first that is not known.

    Parameters
    ----------
    names, known : list or tuple of str
    what : str
        What the names stand for, in the singular, such as ``layer of this model``.

    Raises
    ------
    RecipeError
        For a name that is not in `known`.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.3) or list(known)[:3]
            cause = f"There is no {what} {name!r}."
            raise RecipeError(cause, f"Use {', '.join(near) or 'no name: there are none'}.")


def _readable(path: str) -> str:
    # Some paths are expressions, even nested: getattr(L['fn'].block, '0') stands for block.0.
    while (shorter := re.sub(r"getattr\((.*), '([^']*)'\)", r"\1.\2", path)) != path:
        path = shorter
    path = re.sub(r"\[(\d+)\]", r".\1", path)  # of a list of modules
    return re.sub(r"^L\['\w+'\]\.?", "", path)
