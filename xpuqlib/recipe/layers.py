"""The convs and linears of a captured graph, by the names that the model gives them."""

from __future__ import annotations

import difflib
import re

from torch import fx

from xpuqlib.errors import RecipeError

__all__ = [
    "layer_kind",
    "layer_name",
    "layer_names",
    "module_path",
    "module_paths",
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


def layer_name(node: fx.Node) -> str:
    """Path of the module, or the node's own name for a functional call in the outermost one."""
    return module_path(node) or node.name


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
    return re.sub(r"^L\['\w+'\]\.?", "", path)
