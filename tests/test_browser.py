"""Every lesson in JupyterLab, in a real browser, at 125 % zoom; explorers moved by keyboard.

Lessons with explorers and one other are run from top to bottom, the others are opened as they
were committed. Screenshots stay in build/browser.
"""

import os
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

import pytest
from conftest import chromium, wait_until

from xpuqlib.machine.environment import current_track
from xpuqlib.proof.record import MIME_TYPE

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOTS = ROOT / "build" / "browser"
EXPLORERS = {"00": 0, "01": 1, "03": 2, "05": 1}  # of the lessons to run, by their first letters
KEYS = {".noUi-handle": ("ArrowLeft", "ArrowRight"), "input[type=checkbox]": ("Space",)}
SLOWEST = 1.5  # seconds; make benchmark-explorers measures against the 150 ms of a quiet machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        current_track().name != "current",
        reason="JupyterLab is the same on both tracks: current only",
    ),
]

OUTPUTS = """() => [...jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code').map(cell => cell.sharedModel.getOutputs())"""
READY = """() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session
    ?.kernel?.status === 'idle'"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Serve a copy of the lessons on loopback; gives the address of JupyterLab."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
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


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


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


@contextmanager
def opened(lab, browser, lesson):
    # 1400 × 1100 at 125 %: the page has less room, and everything on it is larger.
    tab = browser.new_page(viewport={"width": 1120, "height": 880}, device_scale_factor=1.25)
    try:
        tab.goto(f"{lab}/lab/tree/{lesson.name}?reset&token=lessons")
        tab.wait_for_function(READY, timeout=120_000)
        yield tab
        SHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SHOTS / f"{lesson.stem}.png")
    finally:
        tab.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
        tab.close()


@pytest.mark.parametrize(
    "lesson",
    [path for path in LESSONS if path.name[:2] not in EXPLORERS],
    ids=lambda path: path.stem,
)
def test_a_committed_lesson_opens_in_jupyterlab(lab, browser, lesson):
    with opened(lab, browser, lesson) as tab:
        outputs = [output for cell in tab.evaluate(OUTPUTS) for output in cell]
        figures = sum("image/png" in output.get("data", {}) for output in outputs)
        assert figures >= 1
        shown = tab.locator(".jp-OutputArea img")
        wait_until(lambda: shown.count() == figures, 60)
        assert all(image.evaluate("image => image.naturalWidth > 0") for image in shown.all())
        assert tab.locator(".jp-RenderedHTMLCommon table").count() >= 1


@pytest.mark.parametrize(
    "lesson",
    [path for path in LESSONS if path.name[:2] in EXPLORERS],
    ids=lambda path: path.stem,
)
def test_a_lesson_runs_in_jupyterlab(lab, browser, lesson):
    with opened(lab, browser, lesson) as tab:
        tab.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        cells = tab.evaluate(OUTPUTS)
        for output in (output for cell in cells for output in cell):
            assert output["output_type"] != "error", output
            assert output.get("name") != "stderr", output
        assert any(MIME_TYPE in o.get("data", {}) for o in cells[-1])
        explorers = tab.locator(".widget-vbox:has(img[alt])")
        assert explorers.count() == EXPLORERS[lesson.name[:2]]
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
            explorer.screenshot(path=SHOTS / f"{lesson.stem}-explorer-{number + 1}.png")
