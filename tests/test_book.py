"""The book, built by `make book` and opened page by page, with no network but loopback."""

import functools
import http.server
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import threading
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest
from chromium import chromium
from conftest import no_torch_in_it
from PIL import Image

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "build" / "book"
PICTURES = ROOT / "docs" / "_static"
# Desktop and phone; pages in Chinese, which have the same look, are opened in the last.
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
FOUND = {  # what a reader types, and a page that must be among the first results
    "zero point": "glossary.html#zero-point",
    "how do I quantize my own model": "questions.html#how-do-i-quantize-my-own-model",
    "why is nothing faster": "questions.html#why-is-nothing-faster",
}
FOUND_IN_CHINESE = {
    "零点": "glossary.html",
    "量化 自己 模型": "questions.html",
}
# What is wide scrolls inside of itself, and not with the whole page or article.
TOO_WIDE = """() => {
    const wide = document.documentElement.clientWidth + 1;
    const whole = 'html, body, main, article, .bd-content, .bd-article-container';
    const scrolls = e => !e.matches(whole)
        && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
    return [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > wide && e.checkVisibility() && !scrolls(e))
        .map(e => e.outerHTML.slice(0, 200));
}"""
BROKEN = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"

pytestmark = [pytest.mark.slow, no_torch_in_it("current")]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Build it as a person does, in a folder that looks like the venv of `make book`."""
    for name in ("sphinx", "myst_nb"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: pip install -e ".[book]"')
    if shutil.which("make") is None:
        pytest.skip("GNU Make is not installed here")
    venv = tmp_path_factory.mktemp("book")
    for path in Path(sys.prefix).iterdir():
        (venv / path.name).symlink_to(path)
    (venv / "installed-book").touch()
    shutil.rmtree(BUILT, ignore_errors=True)
    command = ["make", "book", f"BOOK={venv}", "PYTHON=false"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return {
        path.relative_to(BUILT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(BUILT.glob("[a-z][a-z]/**/*.html"))
        if not {"_static", "map"} & {*path.parts}  # the map is a page of its own
    }


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(book):
    handler = functools.partial(Quiet, directory=BUILT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def tab(address):
    """One page; what it asks of a network, what fails and what the console says are collected."""
    with chromium() as browser:
        page = browser.new_page()
        page.complaints = []
        page.on("requestfailed", lambda request: page.complaints.append(request.url))
        page.on("console", lambda m: m.type == "error" and page.complaints.append(m.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "response", lambda r: r.status >= 400 and page.complaints.append(f"{r.status} {r.url}")
        )
        page.route(lambda url: not url.startswith(address), lambda route: route.abort())
        yield page


def test_every_lesson_is_a_page_and_has_its_minutes_on_the_first_one(book):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"en/lessons/{path.stem}.html" in book
        row = rf"lessons/{path.stem}\.html[^\n]*\n<td><p>\d+</p></td>"
        assert re.search(row, book["en/index.html"])
        assert f"notebooks/{path.name}" in (ROOT / "docs" / "lessons.md").read_text("utf-8")


def test_folds_have_chinese_names_in_the_chinese_book(book):
    lessons = [text for name, text in book.items() if name.startswith("zh/lessons/")]
    for text in lessons:
        names = re.findall(r'<p class="(?:collapsed|expanded) admonition-title">(.*?)</p>', text)
        assert names
        assert [name for name in names if name.isascii()] == []
        assert "提示" in text


def test_every_internal_link_leads_to_a_place(book):
    ids = {name: {*re.findall(r'\bid="([^"]+)"', text)} for name, text in book.items()}
    links, seen = set(), 0
    for name, text in book.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*)"', text):
            if not re.match(r"[a-z]+:", link):
                links.add(urljoin(name, unescape(link)) if link else name)
    for link in links:
        page, _, place = link.partition("#")
        page = page or "en/index.html"
        if page in ids:
            seen += 1
            assert not place or unquote(place) in ids[page] | {"top"}, link
        else:
            assert (BUILT / unquote(page)).exists(), link
    assert seen > 500


def test_every_image_says_what_it_shows(book):
    images = [(name, x) for name, text in book.items() for x in re.findall(r"<img\b[^>]*>", text)]
    assert len(images) > 40
    for name, image in images:
        alt = re.search(r'\balt="([^"]*)"', image)
        assert alt, f"{name}: {image}"
        assert len(alt[1]) > 15, f"{name}: {image}"
        assert not re.search(r"^(figure|output|image|_images|&lt;)|\.png$", alt[1], re.I), image


def test_no_page_is_over_two_megabytes(book):
    for name, text in book.items():
        images = {*re.findall(r'<img\b[^>]*\bsrc="(?!data:)([^"]+)"', text)}
        sizes = [(BUILT / urljoin(name, x)).stat().st_size for x in images]
        assert len(text.encode()) + sum(sizes) < 2e6, name


def test_every_page_opens_without_a_network_wide_and_narrow_light_and_dark(book, address, tab):
    for name in book:
        tab.goto(address + name)
        for width, scheme in LOOKS if name.startswith("en/") else LOOKS[-1:]:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.emulate_media(color_scheme=scheme)
            tab.wait_for_function("is => document.documentElement.dataset.theme === is", arg=scheme)
            assert tab.evaluate(TOO_WIDE) == [], f"{name}, {scheme}, {width}"
        assert tab.evaluate(BROKEN) == []
        assert tab.complaints == [], name


def test_the_slider_of_an_explorer_moves_by_keyboard_and_needs_no_kernel(address, tab):
    for name in ("03_pt2e_default_configuration", "09_your_own_model"):
        tab.goto(f"{address}en/lessons/{name}.html")
        explorer = tab.locator(".explorer").first
        slider, figure, said = (explorer.locator(x) for x in ("input", "img", "p"))
        assert explorer.locator("label").inner_text().strip()
        seen = set()
        for key in ("", "ArrowRight", "Home", "End"):
            if key:
                slider.press(key)
            seen.add((figure.get_attribute("src"), said.inner_text()))
            assert figure.get_attribute("alt") == said.inner_text()
        assert len(seen) >= 3, name  # the first state may be where it starts
        assert tab.complaints == []


@pytest.mark.parametrize("words", FOUND)
def test_a_reader_finds_it_by_search(words, book, address, tab):
    for language in sorted({name[:2] for name in book}):
        tab.goto(f"{address}{language}/search.html?q={words.replace(' ', '+')}")
        tab.wait_for_selector("#search-results li a")
        links = tab.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
        assert any(FOUND[words] in link for link in links[:10]), links


@pytest.mark.parametrize("words", FOUND_IN_CHINESE)
def test_a_reader_finds_it_in_chinese(words, book, address, tab):
    if "zh/index.html" not in book:
        pytest.skip("there is no Chinese book: docs/locale/zh_CN is not here")
    tab.goto(f"{address}zh/search.html?q={words}")
    tab.wait_for_selector("#search-results li a")
    links = tab.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any(FOUND_IN_CHINESE[words] in link for link in links[:10]), links


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_picture_for_the_readme(scheme, address, tab, request):
    """Written with --screenshots; otherwise those that are there are looked at."""
    path = PICTURES / f"lesson-{scheme}.png"
    if request.config.getoption("--screenshots"):
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size({"width": 1280, "height": 800})
        tab.goto(f"{address}en/lessons/03_pt2e_default_configuration.html")
        tab.locator("#evidence").evaluate("section => section.scrollIntoView()")
        tab.wait_for_timeout(500)
        taken = tab.screenshot(animations="disabled")
        picture = Image.open(io.BytesIO(taken)).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < 200_000
    assert f"docs/_static/{path.name}" in (ROOT / "README.md").read_text("utf-8")
