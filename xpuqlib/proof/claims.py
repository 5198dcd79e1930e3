"""The ledger of a lesson: what it says of its results, and whether that holds here."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

import pandas
from IPython.display import display

__all__ = ["Claim", "Claims"]

STYLE = "border-left: 4px solid {}; padding: 0.2em 0.8em; margin: 0.2em 0"
HOLDS, FAILS = "#333333", "#D55E00"  # green is the colour of fp32 in every figure


@dataclass(frozen=True)
class Claim:
    """One sentence about a result: its text, whether it holds here, the measured value."""

    text: str
    holds: bool
    value: str

    def __str__(self) -> str:
        said = f"✓ {self.text}" if self.holds else f"✗ Does not hold here: {self.text}"
        return f"{said}: {self.value}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        style = STYLE.format(HOLDS if self.holds else FAILS)
        sign = "✓" if self.holds else "✗ <em>does not hold here</em>:"
        said = f"{sign} {html.escape(self.text)}: <strong>{html.escape(self.value)}</strong>"
        return {"text/plain": str(self), "text/html": f'<div style="{style}">{said}</div>'}


class Claims:
    """The claims of one lesson, in the order in which they were made.

    As the value of a cell it is the lesson's recap: a table of all claims.
    """

    def __init__(self) -> None:
        self.made: list[Claim] = []

    def add(self, text: str, holds: Any, value: str) -> None:
        """Make a claim, and show it with ✓, or that it does not hold here.

        It never raises for a claim that does not hold: another device, model or parameter may be
        the reason, and the lesson goes on. The same text replaces what was said before, so that a
        cell can be run again.

        Parameters
        ----------
        text : str
            One sentence without its full stop, in the present tense.
        holds : bool, or what has one truth value
            The comparison of measured values that the sentence stands for.
        value : str
            The measured value, with its unit.
        """
        claim = Claim(text, bool(holds), value)
        texts = [made.text for made in self.made]
        if text in texts:
            self.made[texts.index(text)] = claim
        else:
            self.made.append(claim)
        display(claim)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values, for a run record."""
        return [asdict(claim) for claim in self.made]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        signs = ["✓" if claim.holds else "does not hold here" for claim in self.made]
        rows = {
            "what you have seen": [claim.text for claim in self.made],
            "here": [claim.value for claim in self.made],
            "": signs,
        }
        table = pandas.DataFrame(rows)
        page = table.to_html(index=False, justify="left")
        return {
            "text/html": page.replace("<td>", '<td style="text-align: left">'),
            "text/plain": "\n".join(map(str, self.made)),
        }
