"""Code that a person names: found and checked without executing it, then imported and called."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from xpuqlib.errors import ModelError, XpuqError, explained
from xpuqlib.names import WEIGHTS

__all__ = [
    "call_factory",
    "check_weights",
    "factory_file",
    "find_factory",
    "find_file",
    "find_own_model",
    "is_factory",
    "is_own_model",
]

FORM = "Write path/to/file.py:function or package.module:function."


def is_factory(named: str) -> bool:
    r"""Whether a text has the form of a factory: ``file.py:function``, ``package.module:function``.

    A folder on Windows, ``C:\photos``, has another form: what follows the colon is no name.
    """
    _, colon, function = named.rpartition(":")
    return bool(colon) and function.isidentifier()


def is_own_model(named: str) -> bool:
    """Whether a text has the form of a person's own model: a factory, or ``model.pt2``."""
    return is_factory(named) or named.endswith(".pt2")


def find_own_model(named: str) -> str:
    """Check a factory or the file of an exported program, and give it with an absolute path.

    Raises
    ------
    ModelError
        If there is no such file, module or function.
    """
    if named.endswith(".pt2"):
        return find_file(named, ModelError, "Save one with torch.export.save.")
    return find_factory(named, ModelError)


def find_file(named: str, own: type[XpuqError], fix: str) -> str:
    """Give the absolute path of a file; raises our `own` error where there is none."""
    path = Path(named)
    if not path.is_file():
        raise own(f"There is no file {named!r} in {Path.cwd()}.", fix)
    return str(path.resolve())


def find_factory(named: str, own: type[XpuqError]) -> str:
    """Check a factory without executing anything, and give it with an absolute path.

    Parameters
    ----------
    named : str
        ``path/to/file.py:function`` or ``package.module:function``.
    own : type
        The error to raise.

    Returns
    -------
    str
        The same; the path of a file is absolute.

    Raises
    ------
    XpuqError
        `own`, if there is no such file or module, or its code has no such function, or one that
        takes arguments.
    """
    place, _, function = named.rpartition(":")
    if place.endswith(".py"):
        place = find_file(place, own, FORM)
        _check_function(Path(place), function, own)
        return f"{place}:{function}"
    spec = _find_module(place, own)
    if (spec.origin or "").endswith(".py"):
        _check_function(Path(spec.origin), function, own)
    return named


def factory_file(named: str) -> Path | None:
    """Give the file that holds a factory's code, without executing any; None where there is none.

    Parameters
    ----------
    named : str
        ``path/to/file.py:function`` or ``package.module:function``.
    """
    place, _, _ = named.rpartition(":")
    if not place.endswith(".py"):
        try:
            place = _find_module(place, ModelError).origin or ""  # a folder without code has none
        except ModelError:
            return None
    return Path(place) if os.path.isfile(place) else None


def call_factory(named: str, own: type[XpuqError]) -> Any:
    """Import the code that a person names, and call its function: **that code is executed**.

    The folder of a file, or the working folder for a module, comes first in ``sys.path`` from
    then on, as for a script: the code may import what lies beside it.

    Raises
    ------
    XpuqError
        `own`, if the code cannot be found, or raises.
    """
    place, _, function = find_factory(named, own).rpartition(":")
    try:
        return getattr(_import(place), function)()
    except (Exception, SystemExit) as error:  # whatever the code raises; it is kept as the cause
        said = (str(error).strip() or "no message").splitlines()[0]
        cause = f"{named} raised {type(error).__name__}: {said}"
        raise own(cause, f"Try it alone: import {Path(place).stem}, call {function}().") from error


def check_weights(model: str, weights: str) -> None:
    """Refuse weights that a person's own model cannot have.

    Raises
    ------
    ModelError
        For ``digits``, ``imagenet`` or ``random`` with a factory or an exported program.
    """
    if is_own_model(model) and weights in WEIGHTS and weights != "auto":
        cause = f"weights={weights} is for torchvision's models; {model} brings its own."
        raise ModelError(cause, "Take weights=auto (as they come), or the path of a state dict.")


def _find_module(place: str, own: type[XpuqError]) -> ModuleSpec:
    """Find a module step by step: asking importlib for the whole name would execute its package."""
    top, *rest = names = place.split(".")
    if not all(name.isidentifier() for name in names):
        raise own(f"{place!r} is neither a Python file nor a module.", FORM)
    with explained(ValueError, f"{place!r} cannot be imported", FORM, own):
        spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, [str(Path.cwd())])
    for name in rest:
        inside = spec and spec.submodule_search_locations
        spec = PathFinder.find_spec(f"{spec.name}.{name}", inside) if inside else None
    if spec is None:
        fix = f"Install it, or start where its folder is. {FORM}"
        raise own(f"There is no module {place!r} here.", fix)
    return spec


def _check_function(path: Path, function: str, own: type[XpuqError]) -> None:
    kinds = (OSError, SyntaxError, ValueError)
    with explained(kinds, f"{path} cannot be read as Python", "Mend the file.", own):
        tree = ast.parse(path.read_bytes(), filename=str(path))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if function not in _named(tree) | {*functions}:
        near = difflib.get_close_matches(function, functions) or list(functions) or ["none"]
        raise own(f"{path.name} has no function {function!r}.", f"It has: {', '.join(near)}.")
    if function in functions and _takes_arguments(functions[function].args):
        fix = f"Write a function that takes none, and calls {function} with what it needs."
        raise own(f"{function} of {path.name} takes arguments.", fix)


def _named(tree: ast.Module) -> set[str]:
    """Everything that the code gives a name, wherever: the import has the last word."""
    nodes = list(ast.walk(tree))
    names = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    return names | {node.id for node in nodes if isinstance(node, ast.Name)}


def _takes_arguments(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or None in arguments.kw_defaults


def _import(place: str) -> ModuleType:
    if not place.endswith(".py"):
        _search_first(Path.cwd())
        return importlib.import_module(place)
    path = Path(place)
    _search_first(path.parent)
    # Its own name could be that of a module which others have imported, such as models.
    spec = importlib.util.spec_from_file_location(f"xpuqlib_own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def _search_first(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
