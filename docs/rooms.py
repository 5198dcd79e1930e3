"""The pages of the rooms, read from the source: importing all of it would need torch."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

from sphinx.ext.napoleon import Config, NumpyDocstring

NUMPY = Config(napoleon_use_rtype=False)
Code = ast.FunctionDef | ast.ClassDef


def room_page(folder: Path) -> str:
    """Give the page of a room: what its modules offer, one heading a module.

    Parameters
    ----------
    folder : pathlib.Path
        Of the room; its ``__init__`` says what it is for.
    """
    purpose = ast.get_docstring(_parsed(folder / "__init__.py"))
    lines = [f"# `{folder.parent.name}.{folder.name}`", "", purpose, ""]
    for path in sorted(folder.glob("[!_]*.py")):
        lines += _module(path, f"{folder.parent.name}.{folder.name}")
    return "\n".join(lines)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _module(path: Path, room: str) -> Iterator[str]:
    module = _parsed(path)
    [public] = [
        ast.literal_eval(line.value)
        for line in module.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__all__"
    ] or [[]]
    said = [x for x in module.body if isinstance(x, Code) and x.name in public]
    if not public:
        return
    yield from (f"## {path.stem}", "", ast.get_docstring(module), "", "```{eval-rst}")
    yield f".. py:currentmodule:: {room}\n"
    for code in said:
        yield from _entry(code)
    yield "```"
    if others := [f"`{name}`" for name in public if name not in {code.name for code in said}]:
        yield f"\nConstants, and names that PyTorch gives: {', '.join(others)}.\n"


def _entry(code: Code, kind: str = "function") -> Iterator[str]:
    """Give the entry of a function or class in reStructuredText, with the methods of a class."""
    if isinstance(code, ast.ClassDef):
        yield from _described("class", code.name, code)
        for inner in code.body:
            documented = isinstance(inner, ast.FunctionDef) and ast.get_docstring(inner)
            if documented and not inner.name.startswith("_"):
                yield textwrap.indent("\n".join(_entry(inner, _kind(inner))), "   ")
        return
    returned = f" -> {ast.unparse(code.returns)}" if code.returns else ""
    signature = "" if kind == "property" else f"({_arguments(code)}){returned}"
    yield from _described(kind, code.name + signature, code)


def _kind(method: ast.FunctionDef) -> str:
    marks = {ast.unparse(mark) for mark in method.decorator_list}
    return "property" if marks & {"property", "cached_property"} else "method"


def _arguments(code: ast.FunctionDef) -> str:
    places = [code.args.posonlyargs, code.args.args]
    for place in places:
        if place and place[0].arg in ("self", "cls"):
            del place[0]
    return ast.unparse(code.args)


def _described(kind: str, signature: str, code: Code) -> Iterator[str]:
    text = NumpyDocstring(inspect.cleandoc(ast.get_docstring(code) or ""), NUMPY)
    yield from (f".. py:{kind}:: {signature}", "", textwrap.indent(str(text), "   "), "")
