"""What a lesson goes through before it is committed, after its execution: smaller figures."""

import base64
import io
from typing import Any

import nbformat
from nbconvert.preprocessors import Preprocessor
from PIL import Image

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
                data["image/png"] = min(data["image/png"], _smaller(data["image/png"]), key=len)
        return cell, resources


def _smaller(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    page = Image.new("RGB", image.size, "white")  # a palette knows no transparency
    page.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    buffer = io.BytesIO()
    page.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
