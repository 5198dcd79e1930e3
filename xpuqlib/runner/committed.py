"""What a lesson goes through before it is committed, after its execution: smaller figures."""

from typing import Any

import nbformat
from nbconvert.preprocessors import Preprocessor

from xpuqlib.show.states import STATES_MIME_TYPE, smaller_figure

__all__ = ["PaletteFigures"]

LARGEST = 399_000  # bytes of a lesson
COLOURS = 128  # of a figure; more than its lines and letters need


class PaletteFigures(Preprocessor):
    """Store each PNG with a palette: a quarter of the size, and it looks the same.

    A lesson that is too large all the same loses the states of its first explorers.
    """

    def preprocess(
        self, nb: nbformat.NotebookNode, resources: dict[str, Any]
    ) -> tuple[nbformat.NotebookNode, dict[str, Any]]:
        """Make the figures of a notebook smaller, and keep the states that fit."""
        nb, resources = super().preprocess(nb, resources)
        outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
        for output in outputs:
            if STATES_MIME_TYPE in output.get("data", {}) and len(nbformat.writes(nb)) > LARGEST:
                del output.data[STATES_MIME_TYPE]
        return nb, resources

    def preprocess_cell(
        self, cell: nbformat.NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[nbformat.NotebookNode, dict[str, Any]]:
        """Replace the PNG figures among the outputs of one cell, where that makes them smaller."""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                png = data["image/png"]
                data["image/png"] = min(png, smaller_figure(png, COLOURS), key=len)
        return cell, resources
