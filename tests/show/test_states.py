import base64
import io

import ipywidgets as widgets
import numpy
import pandas
import pytest
import torch
from PIL import Image

from xpuqlib.show.explorers import Explorer, explore_quantization
from xpuqlib.show.rescue import explore_rescue
from xpuqlib.show.states import STATES_MIME_TYPE, possible_values
from xpuqlib.show.style import new_figure

SLIDERS = {
    "layers": (widgets.SelectionSlider(options=["conv1", "fc"]), ["conv1", "fc"]),
    "whole": (widgets.IntSlider(0, min=0, max=3), [0, 1, 2, 3]),
    "odd": (widgets.IntSlider(1, min=1, max=5, step=2), [1, 3, 5]),
    "fractions": (widgets.FloatSlider(0.5, min=0, max=1, step=0.25), [0, 0.25, 0.5, 0.75, 1]),
    "exactly": (widgets.FloatSlider(0.3, min=0, max=0.3, step=0.1), [0, 0.1, 0.2, 0.3]),
    "too many": (widgets.IntSlider(0, min=0, max=100), []),
    "a checkbox": (widgets.Checkbox(), []),
}


@pytest.mark.parametrize("name", SLIDERS)
def test_values_of_a_slider(name):
    slider, values = SLIDERS[name]
    assert possible_values({"x": slider}) == values
    assert possible_values({"x": slider, "y": widgets.Checkbox()}) == []


def test_each_state_is_what_a_kernel_would_show():
    curve = pandas.DataFrame(
        {"layer": ["", "conv1", "fc"], "accuracy": [0.5, 0.9, 0.95], "SQNR": [3.0, 20.0, 30.0]}
    )
    explorer = explore_rescue(curve, 0.8)
    bundle, _ = explorer._repr_mimebundle_()
    kept = bundle[STATES_MIME_TYPE]
    assert (kept["label"], kept["start"]) == ("layers in fp32", 0)
    assert [state["value"] for state in kept["states"]] == ["0", "1", "2"]
    assert kept["states"][0]["text"] == bundle["text/plain"]
    pictures = []
    for state in kept["states"]:
        explorer.controls["floating"].value = int(state["value"])
        image, said = explorer._render()
        assert state["text"] == said
        shown, live = (
            numpy.asarray(Image.open(io.BytesIO(base64.b64decode(x))).convert("RGB"), dtype=float)
            for x in (state["image"], image)
        )
        assert abs(shown - live).mean() < 2  # of 255: a palette of 12 colours
        pictures.append(state["image"])
    assert len({*pictures}) == 3


def test_an_explorer_of_many_states_is_a_plain_figure():
    bundle, _ = explore_quantization(torch.linspace(0, 1, 100))._repr_mimebundle_()
    assert STATES_MIME_TYPE not in bundle


def test_it_starts_where_the_slider_stands():
    def draw(alpha):
        figure, axes = new_figure()
        axes.set(title="t", xlabel="x")
        return figure, f"alpha {alpha}"

    slider = widgets.FloatSlider(0.35, min=0, max=1, step=0.05, description="alpha")
    kept = Explorer(draw, alpha=slider)._repr_mimebundle_()[0][STATES_MIME_TYPE]
    assert kept["states"][kept["start"]] | {"image": ""} == {
        "value": "0.35",
        "text": "alpha 0.35",
        "image": "",
    }
