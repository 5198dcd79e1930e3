"""What a lesson goes through before it is committed, after its execution: smaller figures."""

from typing import Any

import nbformat
from nbconvert.preprocessors import Preprocessor

from xpuqlib.show.states import smaller_png

__all__ = ["PaletteFigures"]

COLOURS = 128  # of a figure; more than its lines and letters need


class PaletteFigures(Preprocessor):
    """Store each PNG with a palette: a quarter of the size, and it looks the same."""

    def preprocess_cell(
        self, cell: nbformat.NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[nbformat.NotebookNode, dict[str, Any]]:
        """Replace the PNG figures among the outputs of one cell, where that makes them smaller."""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                png = data["image/png"]
                data["image/png"] = min(png, smaller_png(png, COLOURS), key=len)
        return cell, resources
