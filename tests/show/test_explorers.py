import base64
import time
from types import SimpleNamespace

import ipywidgets
import pandas
import pytest
import torch
from conftest import prepare

from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.pt2e import capture
from xpuqlib.show import explorers

VIEW = "application/vnd.jupyter.widget-view+json"
RELU = torch.randn(5000, generator=torch.Generator().manual_seed(0)).relu()
RECIPES = pandas.DataFrame({"accuracy (%)": [98.0, 97.0], "time (ms)": [4, 2]}, ["fp32", "int8"])


def explore():
    return explorers.explore_quantization(RELU)


def compare():
    return explorers.compare_recipes(RECIPES, "title")


@pytest.fixture(scope="module")
def calibrated():
    data = load_data(calibration_batches=1)
    prepared = prepare(capture(load_model(), (data.example,)))
    calibrate(prepared, data.calibration)
    return prepared


def said(explorer):
    return explorer._repr_mimebundle_()[0]["text/plain"]


@pytest.mark.parametrize("make", [explore, compare])
def test_where_nobody_listens_there_is_a_figure_and_no_widget(make):
    bundle, metadata = make()._repr_mimebundle_()
    assert bundle.keys() == {"image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": bundle["text/plain"]}}


@pytest.mark.parametrize("listens", [True, False])
def test_a_front_end_listens_where_it_allows_input(monkeypatch, listens):
    parent = {"content": {"allow_stdin": listens}}
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent))
    monkeypatch.setattr(explorers, "get_ipython", lambda: shell)
    bundle, _ = explore()._repr_mimebundle_()
    assert (VIEW in bundle) == listens
    assert "image/png" in bundle  # for GitHub, and for the notebook without its kernel


def test_moving_a_control_changes_figure_and_sentence():
    explorer = explore()
    explorer._update()
    views = [explorer.view.value]
    for name, value in {"bits": 4, "percentile": 99.0, "symmetric": True}.items():
        explorer.controls[name].value = value
        assert explorer.view.value not in views
        views.append(explorer.view.value)
    assert 'alt="SQNR' in views[-1]


def test_each_bit_is_six_decibels_and_symmetric_costs_one():
    explorer = explorers.explore_quantization(torch.linspace(0, 1, 100_000))

    def decibels(**values):
        for name, value in ({"bits": 8, "symmetric": False, "percentile": 100} | values).items():
            explorer.controls[name].value = value
        return float(said(explorer).split()[1])

    assert decibels() - decibels(bits=7) == pytest.approx(6.02, abs=0.3)
    assert decibels() - decibels(symmetric=True) == pytest.approx(6.02, abs=0.3)
    assert decibels(percentile=95) < decibels() - 10
    assert "clipping" in said(explorer)


def test_range_and_codes_are_those_of_all_values(monkeypatch):
    values = torch.cat([RELU.repeat(20), torch.tensor([51.0])])  # the largest stands alone
    assert "with scale 0.2 and zero point -128" in said(explorers.explore_quantization(values))
    spread = torch.arange(256.0).repeat(1000)
    assert "256 distinct codes of 256 occur" in said(explorers.explore_quantization(spread))
    assert "Seen are" not in said(explorers.explore_quantization(values))
    monkeypatch.setattr(explorers, "MOST_VALUES", 1000)
    sampled = said(explorers.explore_quantization(values))
    assert "with scale 0.2 and zero point -128" in sampled
    assert "Seen are 1,000 of 100,001 values." in sampled


def test_layers_are_told_with_range_scale_sqnr_and_kernel(calibrated, resnet_flow):
    browser = explorers.browse_layers(calibrated, {"conv1": 40.0}, resnet_flow.evidence)
    browser.controls["layer"].value = "conv1"
    text = said(browser)
    assert text.startswith("Input of conv1: -1 to 1, scale")
    assert "SQNR of its output against fp32: 40.0 dB" in text
    assert "An int8 kernel runs it." in text
    assert len(browser.controls["layer"].options) == 21
    for layer in ("layer4.1.conv2", "fc"):  # every layer has a figure
        browser.controls["layer"].value = layer
        assert said(browser).startswith(f"Input of {layer}:")


def test_chosen_recipes_are_shown():
    explorer = compare()
    assert said(explorer) == "2 of 2 recipes: fp32, int8."
    explorer.controls["recipe_0"].value = False
    assert said(explorer) == "1 of 2 recipes: int8."
    explorer.controls["recipe_1"].value = False
    assert said(explorer) == "None is chosen: all are shown. 2 of 2 recipes: fp32, int8."


def test_every_control_has_a_label_and_takes_the_keyboard(calibrated):
    for explorer in (explore(), compare(), explorers.browse_layers(calibrated)):
        for control in explorer.controls.values():
            assert control.description
            # JupyterLab takes the arrow keys away from a dropdown (see explorers.py).
            assert isinstance(
                control,
                ipywidgets.IntSlider
                | ipywidgets.FloatSlider
                | ipywidgets.SelectionSlider
                | ipywidgets.Checkbox,
            )


def test_a_move_is_fast(calibrated):
    # 150 ms on a quiet machine (make benchmark-explorers); here ten times that, for a busy one.
    for explorer in (explore(), compare(), explorers.browse_layers(calibrated)):
        explorer._update()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            explorer._update()
            times.append(time.perf_counter() - start)
        assert min(times) < 1.5
