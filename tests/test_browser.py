"""Every lesson in JupyterLab, in a real browser, at 125 % zoom; explorers moved by keyboard.

Two lessons are run from top to bottom, one of them with an explorer, and a notebook that has the
explorers of all others; the other lessons are opened as they were committed. Screenshots stay in
build/browser.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from chromium import chromium
from conftest import no_torch_in_it, wait_until, write_notebook

from xpuqlib.proof.record import MIME_TYPE

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SHOTS = ROOT / "build" / "browser"
EXPLORERS = {"00": 0, "01": 1, "explorers": 5}  # of the notebooks to run, by their first letters
KEYS = {".noUi-handle": ("ArrowLeft", "ArrowRight"), "input[type=checkbox]": ("Space",)}
CALLED = r"^(explore_\w+|browse_\w+|compare_recipes)\("
SLOWEST = 1.5  # seconds; make benchmark-explorers measures against the 150 ms of a quiet machine

# The explorers of later lessons, on the model of those lessons: all that they need, and no more.
EXPLORING = [
    """\
import copy

import pandas
import torch

from xpuqlib.material import load_data, load_model
from xpuqlib.proof import collect_evidence, layer_sqnr
from xpuqlib.recipe import (
    XPUInductorQuantizer,
    calibrate,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    lower,
    prepare_pt2e,
)
from xpuqlib.show import browse_layers, compare_recipes, explore_rescue, explore_smoothing

images, fp32_model = load_data(calibration_batches=2), load_model()
inputs = (images.example,)
quantizer = XPUInductorQuantizer().set_global(get_default_xpu_inductor_quantization_config())
prepared = prepare_pt2e(capture(fp32_model, inputs), quantizer)
calibrate(prepared, images.calibration)
observed = copy.deepcopy(prepared)
converted = convert_pt2e(prepared)
proof = collect_evidence(fp32_model, converted, lower(converted, inputs), inputs)
by_layer = layer_sqnr(copy.deepcopy(observed), converted, inputs)""",
    "browse_layers(observed)",
    "browse_layers(observed, by_layer, proof)",
    """\
names = ["fp32", "bf16", "int8", "int8-mixed-bf16", "int8, no pool rewrite"]
names.append("int8-mixed-bf16, no pool rewrite")
values = {
    "accuracy (%)": [98.9, 98.9, 98.7, 98.7, 98.7, 98.7],
    "SQNR against fp32 (dB)": [None, 45.0, 32.0, 31.8, 32.0, 31.8],
    "time of a batch (ms)": [20.0, 10.0, 6.0, 5.5, 8.0, 6.5],
    "peak of activations (MB)": [4.2, 3.1, 1.1, 1.1, 2.6, 1.6],
}
spread = pandas.DataFrame({"time of a batch (ms)": [0.5] * 6}, names)
recipes = pandas.DataFrame(values, names, dtype=float)
ran = {name: name.partition(",")[0].replace("-mixed-", ", ") for name in names}
compare_recipes(recipes, "resnet18, batch 32", spread, ran, baseline="fp32")""",
    """\
layers = ["", *by_layer]
shares = [n / (len(layers) - 1) for n in range(len(layers))]
curve = pandas.DataFrame(
    {
        "layer": layers,
        "accuracy": [0.8 + 0.19 * share for share in shares],
        "SQNR": [12 + 20 * share for share in shares],
    }
)
explore_rescue(curve, 0.98)""",
    """\
generator = torch.Generator().manual_seed(0)
channels = torch.linspace(0.5, 40, 32)
activation = torch.randn(64, 32, generator=generator) * channels
explore_smoothing(activation, torch.randn(16, 32, generator=generator))""",
]

GUESSING = """\
from xpuqlib.classroom import Guess

Guess("Why?", {"nothing": "It is fp32.", "freezing": "It was off."}, right="freezing")"""

pytestmark = [pytest.mark.slow, no_torch_in_it("ipex")]

OUTPUTS = """() => [...jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code').map(cell => cell.sharedModel.getOutputs())"""
OPEN = "async path => { await jupyterapp.commands.execute('docmanager:open', {path}); }"
CLOSE = """async () => {
    jupyterapp.shell.currentWidget?.dispose();
    await jupyterapp.serviceManager.sessions.shutdownAll();
}"""
READY = """path => {
    const context = jupyterapp.shell.currentWidget?.context;
    return context?.path === path && context.sessionContext.session?.kernel?.status === 'idle';
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Serve a copy of the lessons on loopback; gives the address of JupyterLab."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    write_notebook(home / "notebooks" / "explorers.ipynb", None, *EXPLORING)
    write_notebook(home / "notebooks" / "quiz.ipynb", None, GUESSING)
    settings = home / "settings" / "@jupyterlab"
    for name, content in {
        "notebook-extension/tracker": '{"windowingMode": "none"}',  # all cells are on the page
        "apputils-extension/notification": '{"checkForUpdates": false, "fetchNews": "false"}',
    }.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=lessons",
        f"--ServerApp.root_dir={home / 'notebooks'}",
        "--LabApp.expose_app_in_browser=True",
    ]
    folders = {
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    environment = os.environ | {name: str(path) for name, path in folders.items()}
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"

    def answers():
        assert server.poll() is None, (home / "log").read_text()
        try:
            return urllib.request.urlopen(f"{address}/api?token=lessons").status == 200
        except urllib.error.URLError:
            return False

    try:
        wait_until(answers, 120)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def move(explorer, control, keys):
    """Press a key on a control; seconds until the figure is another one."""
    figure = explorer.locator("img[alt]")
    before = figure.get_attribute("src")
    at_the_end = control.get_attribute("aria-valuenow") == control.get_attribute("aria-valuemin")
    control.focus()
    start = time.perf_counter()
    control.press(keys[-1] if at_the_end else keys[0])
    wait_until(lambda: figure.get_attribute("src") != before, 30)
    return time.perf_counter() - start


@pytest.fixture(scope="module")
def tab(lab):
    """One page of JupyterLab, in which the notebooks are opened one after the other."""
    with chromium() as browser:
        # 1400 × 1100 at 125 %: the page has less room, and everything on it is larger.
        page = browser.new_page(viewport={"width": 1120, "height": 880}, device_scale_factor=1.25)
        page.goto(f"{lab}/lab?reset&token=lessons")
        page.wait_for_function("() => window.jupyterapp?.restored.then(() => true)")
        yield page


@contextmanager
def opened(tab, name):
    path = f"{name}.ipynb"
    tab.evaluate(OPEN, path)
    try:
        tab.wait_for_function(READY, arg=path, timeout=120_000)
        yield
        SHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SHOTS / f"{name}.png")
    finally:
        tab.evaluate(CLOSE)


def runs(name):
    return any(name.startswith(first) for first in EXPLORERS)


@pytest.mark.parametrize("name", [name for name in NAMES if not runs(name)])
def test_a_committed_lesson_opens_in_jupyterlab(tab, name):
    with opened(tab, name):
        outputs = [output for cell in tab.evaluate(OUTPUTS) for output in cell]
        figures = sum("image/png" in output.get("data", {}) for output in outputs)
        assert figures >= 1
        shown = tab.locator(".jp-OutputArea img")
        wait_until(lambda: shown.count() == figures, 60)
        assert all(image.evaluate("image => image.naturalWidth > 0") for image in shown.all())
        assert tab.locator(".jp-RenderedHTMLCommon table").count() >= 1


def explorers_of(name):
    """Names of the explorers that cells of a lesson call as their value."""
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return {call for source in code for call in re.findall(CALLED, source, re.M)}


def test_every_explorer_of_a_lesson_is_run():
    alone = {call for source in EXPLORING for call in re.findall(CALLED, source, re.M)}
    run = alone.union(*map(explorers_of, filter(runs, NAMES)))
    assert len(run) >= 4
    assert set().union(*map(explorers_of, NAMES)) == run


@pytest.mark.parametrize("name", [*filter(runs, NAMES), "explorers"])
def test_a_notebook_runs_in_jupyterlab(tab, name):
    with opened(tab, name):
        tab.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        cells = tab.evaluate(OUTPUTS)
        for output in (output for cell in cells for output in cell):
            assert output["output_type"] != "error", output
            assert output.get("name") != "stderr", output
        if name in NAMES:
            assert any(MIME_TYPE in o.get("data", {}) for o in cells[-1])
        explorers = tab.locator(".widget-vbox:has(img[alt])")
        [expected] = [number for first, number in EXPLORERS.items() if name.startswith(first)]
        assert explorers.count() == expected
        SHOTS.mkdir(parents=True, exist_ok=True)
        for number in range(explorers.count()):
            explorer = explorers.nth(number)
            explorer.scroll_into_view_if_needed()
            moved = []
            for kind, keys in KEYS.items():
                for control in explorer.locator(kind).all():
                    assert control.evaluate("element => element.tabIndex") >= 0  # Tab gets there
                    moved.append(move(explorer, control, keys))
            assert len(moved) >= 1
            assert min(moved) < SLOWEST
            controls = explorer.locator(".widget-hbox > *").all_inner_texts()
            assert len(controls) == len(moved)
            assert all(text.strip() for text in controls)  # its label
            inside = "e => e.scrollWidth <= e.closest('.jp-OutputArea-output').clientWidth + 1"
            assert explorer.evaluate(inside)
            explorer.screenshot(path=SHOTS / f"{name}-explorer-{number + 1}.png")


def test_a_guess_is_answered_by_keyboard(tab):
    with opened(tab, "quiz"):
        tab.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        quiz = tab.locator(".jp-OutputArea .widget-vbox")
        buttons = quiz.locator("button")
        wait_until(lambda: buttons.all_inner_texts() == ["nothing", "freezing"], 60)
        assert "It was off." not in quiz.inner_text()
        for button, said in zip(buttons.all(), ("Not that.", "It was off."), strict=True):
            assert button.evaluate("element => element.tabIndex") >= 0
            button.focus()
            button.press("Enter")
            wait_until(lambda said=said: said in quiz.inner_text(), 30)
