"""Checks of exercises: points for nbgrader, and a hint that names the usual mistake."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from IPython.display import display
from torch.utils._pytree import tree_leaves

__all__ = ["check"]

OPEN = "Not attempted yet. Write your answer in the cell above, run it, then run this cell again."
PARTLY = "Not attempted yet, in part: None or ... stands where a value of your answer is due."
FAILED = "The check itself failed. This is no error of your code; please report it:"
# What a recognizer raises for an answer of another shape than it takes for granted.
OTHER_SHAPE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError)
STYLE = "border-left: 4px solid {}; padding: 0.3em 0.8em"
RIGHT, OTHER = "#333333", "#D55E00"  # green is the colour of fp32 in every figure


def check(
    answer: Any,
    expected: Any,
    *,
    usual: Mapping[str, Any],
    hint: str,
    points: int = 1,
    tolerance: float = 0.0,
) -> int:
    """Compare a student's answer, show what is right or wrong about it, and return the points.

    As the last line of an nbgrader test cell its value is the grade. It never raises for a wrong
    answer, so that a lesson with open exercises still runs to its end. An error of the check itself
    is told apart from one of the student's code, and gives no points either.

    Parameters
    ----------
    answer : value, or callable without arguments
        What the student wrote; a callable is called here, and whatever it raises is shown. None
        and ``...``, also inside of a list or tuple, count as not attempted.
    expected : number, str, bool, torch.Tensor, or a list, tuple, set or dict of them
        The right answer; text is compared without case and outer spaces. A tensor's dtype is a
        part of the answer.
    usual : dict of str to value or callable
        Hint to the wrong answer that it explains, or to a function that recognizes that answer.
        A function that takes a shape for granted which the answer lacks did not recognize it; any
        other error in it is one of the check.
    hint : str
        For any other wrong answer.
    points : int
        For the right answer; a wrong one gets none.
    tolerance : float
        Relative difference that numbers and tensors may have.
    """
    try:
        value = answer() if callable(answer) else answer
    except Exception as error:  # a student's code may raise anything; it is shown, not hidden
        said, earned = f"Your code raised {type(error).__name__}: {error}", 0
    else:
        try:
            right = not _is_open(value) and _same(value, expected, tolerance)
            said = "Right." if right else _explain(value, expected, usual, hint, tolerance)
            earned = points * right
        except Exception as error:  # shown, so that a lesson still runs to its end
            said, earned = f"{FAILED} {type(error).__name__}: {error}", 0
    text = f"{earned} of {points} points. {said}"
    style, sign = STYLE.format(RIGHT if earned else OTHER), "✓" if earned else "→"
    page = f'<div style="{style}">{sign} {html.escape(text)}</div>'
    display({"text/plain": text, "text/html": page}, raw=True)
    return earned


def _explain(
    value: Any, expected: Any, usual: Mapping[str, Any], hint: str, tolerance: float
) -> str:
    """Say what is wrong: nothing there yet, a mistake of this exercise, a mistake of any."""
    if _is_open(value):
        return OPEN if _is_all_open(value) else PARTLY
    for text, wrong in usual.items():
        if _recognizes(wrong, value, tolerance):
            return text
    if _same(value, expected, tolerance, dtypes=False):
        return f"The numbers are right, the dtype is not: {', '.join(_dtypes(expected))} is due."
    if _is_swapped(value, expected, tolerance):
        return "The values are right, and stand in the wrong order: let the two change places."
    return hint


def _recognizes(wrong: Any, value: Any, tolerance: float) -> bool:
    try:
        return bool(wrong(value)) if callable(wrong) else _same(value, wrong, tolerance)
    except OTHER_SHAPE:
        return False


def _is_open(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else ()
    return value is None or value is ... or any(map(_is_open, parts))


def _is_all_open(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_all_open, value))
    return value is None or value is ...


def _is_swapped(value: Any, other: Any, tolerance: float) -> bool:
    """Whether each innermost pair is right once its two parts change places."""
    if not all(isinstance(parts, list | tuple) for parts in (value, other)):
        return False
    if any(isinstance(part, list | tuple) for part in other):
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(_is_swapped(*pair, tolerance) for pair in pairs)
    return len(other) == 2 and _same(list(value)[::-1], other, tolerance)


def _dtypes(expected: Any) -> list[str]:
    """List the dtypes of all tensors in an answer, each once."""
    leaves = [leaf for leaf in tree_leaves(expected) if isinstance(leaf, torch.Tensor)]
    return list(dict.fromkeys(str(leaf.dtype) for leaf in leaves))


def _same(value: Any, other: Any, tolerance: float, dtypes: bool = True) -> bool:
    if isinstance(other, torch.Tensor):
        if not isinstance(value, torch.Tensor) or value.shape != other.shape:
            return False
        pair = [tensor.double().cpu() for tensor in (value, other)]
        fits = value.dtype == other.dtype or not dtypes
        return fits and torch.allclose(*pair, rtol=tolerance, atol=0)
    if isinstance(other, dict):
        keys = isinstance(value, dict) and value.keys() == other.keys()
        return keys and all(_same(value[key], other[key], tolerance, dtypes) for key in other)
    if isinstance(other, list | tuple):
        fits = isinstance(value, list | tuple) and len(value) == len(other)
        return fits and all(
            _same(*pair, tolerance, dtypes) for pair in zip(value, other, strict=True)
        )
    if isinstance(other, str):
        return isinstance(value, str) and value.strip().casefold() == other.strip().casefold()
    if isinstance(other, bool | set):
        return isinstance(value, type(other)) and value == other
    number = isinstance(value, Real) and not isinstance(value, bool)
    number = number or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return number and math.isclose(float(value), float(other), rel_tol=tolerance)
