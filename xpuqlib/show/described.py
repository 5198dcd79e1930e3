"""What a figure shows, in words: for those who hear a page, and where an image is missing."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

__all__ = ["DescribedFigure"]


class DescribedFigure(Figure):
    """A figure that has an alternative text, in a notebook and in the pages made of it.

    The text is read from what is drawn: titles, axes, legends and named rows. A figure without
    any of these says ``figure.set_label("what it shows")``.
    """

    def describe(self) -> str:
        """Say what it shows, in one or a few sentences."""
        if self.get_label():
            return self.get_label()
        panels = [axes for axes in self.axes if axes.axison]
        said = [self.get_suptitle(), *map(_panel, panels)]
        legends = [*self.legends, *filter(None, (axes.get_legend() for axes in panels))]
        if names := dict.fromkeys(name for legend in legends for name in _names(legend)):
            said.append(f"Drawn are: {'; '.join(names)}")
        return " ".join(f"{text.rstrip('.')}." for text in map(_one_line, said) if text)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        said = self.describe()
        return {"text/plain": said}, {"image/png": {"alt": said}}


def _panel(axes: Axes) -> str:
    labels = [label.get_text() for label in axes.get_yticklabels()]
    rows = [label for label in labels if re.search("[A-Za-z]{2}", label) and "$" not in label]
    parts = [f"x: {axes.get_xlabel()}", f"y: {axes.get_ylabel()}", f"rows: {' / '.join(rows)}"]
    told = "; ".join(part for part in parts if not part.endswith(": "))
    title = axes.get_title() or axes.get_title(loc="left")
    return f"{title} ({told})" if title and told else title or told


def _names(legend: Legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def _one_line(text: str) -> str:
    return " ".join(text.split())
