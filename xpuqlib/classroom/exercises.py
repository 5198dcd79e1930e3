"""Checks of exercises: points for nbgrader, and a hint that names the usual mistake."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from IPython.display import display

__all__ = ["check"]

OPEN = "Not attempted yet. Write your answer in the cell above, run it, then run this cell again."
STYLE = "border-left: 4px solid {}; padding: 0.3em 0.8em"
GREEN, ORANGE = "#009e73", "#d55e00"


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
    answer, so that a lesson with open exercises still runs to its end.

    Parameters
    ----------
    answer : value, or callable without arguments
        What the student wrote; a callable is called here, and whatever it raises is shown. None
        and ``...``, also inside of a list or tuple, count as not attempted.
    expected : number, str, bool, torch.Tensor, or a list, tuple, set or dict of them
        The right answer; text is compared without case and outer spaces.
    usual : dict of str to value or callable
        Hint to the wrong answer that it explains, or to a function that recognizes that answer.
    hint : str
        For any other wrong answer.
    points : int
        For the right answer; a wrong one gets none.
    tolerance : float
        Relative difference that numbers and tensors may have.
    """

    def recognizes(wrong: Any) -> bool:
        return wrong(value) if callable(wrong) else _same(value, wrong, tolerance)

    try:
        value, earned = answer() if callable(answer) else answer, 0
        if _is_open(value):
            said = OPEN
        elif _same(value, expected, tolerance):
            said, earned = "Right.", points
        else:
            said = next((text for text, wrong in usual.items() if recognizes(wrong)), hint)
    except Exception as error:  # a student's code may raise anything; it is shown, not hidden
        said, earned = f"Your code raised {type(error).__name__}: {error}", 0
    text = f"{earned} of {points} points. {said}"
    style, sign = STYLE.format(GREEN if earned else ORANGE), "✓" if earned else "→"
    page = f'<div style="{style}">{sign} {html.escape(text)}</div>'
    display({"text/plain": text, "text/html": page}, raw=True)
    return earned


def _is_open(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else ()
    return value is None or value is ... or any(map(_is_open, parts))


def _same(value: Any, other: Any, tolerance: float) -> bool:
    if isinstance(other, torch.Tensor):
        fits = isinstance(value, torch.Tensor) and value.shape == other.shape
        pair = [tensor.double().cpu() for tensor in (value, other)] if fits else []
        return fits and torch.allclose(*pair, rtol=tolerance, atol=0)
    if isinstance(other, dict):
        keys = value.keys() == other.keys() if isinstance(value, dict) else False
        return keys and all(_same(value[key], other[key], tolerance) for key in other)
    if isinstance(other, list | tuple):
        fits = isinstance(value, list | tuple) and len(value) == len(other)
        return fits and all(map(_same, value, other, [tolerance] * len(other)))
    if isinstance(other, str):
        return isinstance(value, str) and value.strip().casefold() == other.strip().casefold()
    if isinstance(other, bool | set):
        return isinstance(value, type(other)) and value == other
    number = isinstance(value, Real) and not isinstance(value, bool)
    number = number or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return number and math.isclose(float(value), float(other), rel_tol=tolerance)
