"""A question before its answer: with buttons where a front end listens, as text elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets

from xpuqlib.errors import ClassroomError
from xpuqlib.show.explorers import front_end_listens

__all__ = ["Guess"]

STYLE = "border-left: 4px solid #333333; padding: 0.2em 0.8em; margin: 0.2em 0; line-height: 1.4"


class Guess:
    """A question with choices; as the value of a cell it shows itself, and keeps no score.

    With a kernel each choice is a button, reachable by keyboard, that says why it is right or not.
    Without one (GitHub, papermill) the answer is folded away, and opens on a click.

    Parameters
    ----------
    question : str
        What stands in backquotes is shown as code, here and below.
    choices : dict of str to str
        A choice, in a few words, to what is said when it is chosen.
    right : str
        The right one.

    Raises
    ------
    ClassroomError
        If `right` is not among the choices.
    """

    def __init__(self, question: str, choices: Mapping[str, str], right: str) -> None:
        if right not in choices:
            cause = f"The right answer {right!r} is not among the choices."
            raise ClassroomError(cause, f"Give one of them: {', '.join(choices)}.")
        self.question, self.choices, self.right = question, dict(choices), right
        self.said = widgets.HTML()
        wide = {"width": "auto", "max_width": "100%"}
        self.buttons = {
            choice: widgets.Button(description=choice, tooltip=choice, layout=wide)
            for choice in choices
        }
        for button in self.buttons.values():
            button.on_click(self._answer)

    def _answer(self, button: widgets.Button) -> None:
        choice = button.description
        sign = "✓" if choice == self.right else "→ Not that."
        text = f"<strong>{sign} {html.escape(choice)}</strong> {_page(self.choices[choice])}"
        self.said.value = f'<p aria-live="polite" style="line-height: 1.4">{text}</p>'

    def _folded(self) -> str:
        items = "".join(f"<li>{_page(choice)}</li>" for choice in self.choices)
        answer = f"<strong>{_page(self.right)}</strong> {_page(self.choices[self.right])}"
        return (
            f'<div style="{STYLE}"><p><strong>Guess.</strong> {_page(self.question)}</p>'
            f"<ul>{items}</ul><details><summary>The answer</summary><p>{answer}</p></details></div>"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        lines = [f"Guess. {self.question}", *(f"- {choice}" for choice in self.choices)]
        lines.append(f"The answer: {self.right}. {self.choices[self.right]}")
        bundle: dict[str, Any] = {"text/html": self._folded(), "text/plain": "\n".join(lines)}
        if front_end_listens():
            question = widgets.HTML(f"<strong>Guess.</strong> {_page(self.question)}")
            row = widgets.HBox(list(self.buttons.values()), layout={"flex_flow": "row wrap"})
            bundle = widgets.VBox([question, row, self.said])._repr_mimebundle_() | bundle
        return bundle


def _page(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
