"""Chromium, for the tests that open pages."""

import shutil
from contextlib import contextmanager

import pytest


@contextmanager
def chromium():
    """Start Debian's Chromium, headless; skip, and say what is missing, where it is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium here (Debian: apt install chromium): pages were not opened")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
