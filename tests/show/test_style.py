"""One colour, one meaning: those of dtypes are in no other palette, and in no lesson."""

import re
from pathlib import Path

import nbformat
import pytest

from xpuqlib.proof import claims
from xpuqlib.runner.figure import MODES
from xpuqlib.show import style
from xpuqlib.show.graphs import KINDS, LAYERS

ROOT = Path(__file__).parent.parent.parent
TAKEN = set(style.DTYPES.values())
PALETTES = {
    "kinds of operators": [colour for colour, _ in KINDS.values()],
    "modes of runs": [colour for _, colour in MODES.values()],
    "lines side by side": style.SERIES,
    "claims": [claims.HOLDS, claims.FAILS],
}


@pytest.mark.parametrize("name", PALETTES)
def test_a_palette_has_distinct_colours_and_none_of_a_dtype(name):
    colours = [colour.upper() for colour in PALETTES[name]]
    assert len({*colours}) == len(colours)
    assert not TAKEN & {*colours}


def test_each_dtype_has_a_colour_of_its_own():
    assert len(TAKEN) == len(style.DTYPES)


def test_layers_have_the_colour_of_their_dtype_and_a_look_of_their_own():
    looks = [look[:2] for look in LAYERS.values()]
    assert len({*looks}) == len(looks)
    for label, (colour, _, _) in LAYERS.items():
        dtype = label.split()[0].strip(",")
        assert style.DTYPES.get(dtype, style.PINK) == colour


def test_nothing_else_writes_the_colours_of_dtypes():
    places = [*ROOT.glob("xpuqlib/**/*.py"), *ROOT.glob("xpuqlib/**/*.html")]
    texts = {
        p.name: p.read_text(encoding="utf-8") for p in [*places, *ROOT.glob("benchmarks/*.py")]
    }
    for path in ROOT.glob("notebooks/*.ipynb"):
        texts[path.name] = "".join(cell.source for cell in nbformat.read(path, 4).cells)
    taken = re.compile("|".join(TAKEN), re.I)
    assert [name for name, text in texts.items() if taken.search(text)] == ["style.py"]
