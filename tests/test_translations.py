"""The committed translations: complete, true to code and links, one name for each term."""

import re
import shutil
from collections import Counter

import nbformat
import pytest
from babel.messages.pofile import read_po
from conftest import no_torch_in_it
from markdown_it import MarkdownIt
from trial import LESSONS, ROOT

from xpuqlib.runner.execution import Job
from xpuqlib.runner.language import behind, passages, read_catalogue, renew_catalogues, translate

pytestmark = no_torch_in_it("current")

ZH = ROOT / "docs/locale/zh_CN/LC_MESSAGES"
CATALOGUES = sorted(ZH.rglob("*.po"))
each_catalogue = pytest.mark.parametrize(
    "path", CATALOGUES, ids=lambda path: path.relative_to(ZH).with_suffix("").as_posix()
)


def entries(path):
    return [m for m in read_po(path.open("rb")) if m.id]


def prose(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_passage_of_a_lesson_is_found_again_in_its_text(path):
    for text in prose(path):
        found = passages(text)
        assert translate(text, {passage: passage for passage in found}) == text
        turned = translate(text, {passage: f"«{passage}»" for passage in found})
        assert re.findall("«(.*?)»", turned) == found


@each_catalogue
def test_no_english_sentence_changed_since_it_was_translated(path):
    assert behind(path.relative_to(ZH).with_suffix("").as_posix(), root=ROOT) == []


def test_catalogues_and_readme_are_as_make_catalogues_leaves_them(tmp_path):
    for name in ("notebooks", "GLOSSARY.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs/locale", tmp_path / "docs/locale")
    for page in (ROOT / "docs").glob("*.md"):
        (tmp_path / "docs" / page.name).symlink_to(page)
    renew_catalogues(tmp_path)
    for path in CATALOGUES:
        made = tmp_path / path.relative_to(ROOT)
        assert made.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), path
    readme = (tmp_path / "README.zh_CN.md").read_text(encoding="utf-8")
    assert readme == (ROOT / "README.zh_CN.md").read_text(encoding="utf-8")


def test_the_first_six_lessons_and_the_glossary_are_translated():
    names = {path.stem for path in CATALOGUES}
    assert {"glossary", *(path.stem for path in LESSONS[:6])} <= names


def parts(text):
    """Count what a translation must keep: code, links, formulas; and bold and slanted words."""
    [inline] = MarkdownIt("commonmark").parseInline(text)
    found = Counter(re.findall(r"\$[^$]+\$", text))
    for token in inline.children:
        if token.type == "code_inline":
            found[token.content] += 1
        elif token.type == "link_open":
            found[token.attrGet("href")] += 1
        elif token.type == "text":
            assert "*" not in token.content, text
    return found


@each_catalogue
def test_a_translation_keeps_code_links_and_formulas(path):
    for message in entries(path):
        english, translated = parts(message.id), parts(message.string)
        assert english == translated, message.string
        assert "\n" not in message.string


def test_a_term_has_one_name_everywhere():
    names = {}
    for heading, text in read_catalogue(ZH, "glossary").items():
        slug = re.sub("[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        names[slug] = text.partition("（")[0]
    for path in CATALOGUES:
        for message in entries(path):
            for word, term in re.findall(
                r"\[([^]]+)\]\((?:\.\./GLOSSARY\.md)?#([\w-]+)\)", message.string
            ):
                assert word.strip("*") in names[term], message.string


@pytest.mark.parametrize("path", LESSONS[:6], ids=lambda path: path.stem)
def test_only_prose_of_a_lesson_changes(path):
    english, chinese = (
        nbformat.reads(Job(path, {}, catalogues).task().notebook, as_version=4)
        for catalogues in (None, ZH)
    )
    changed = 0
    for before, after in zip(english.cells, chinese.cells, strict=True):
        if before.cell_type == "markdown":
            changed += before.pop("source") != after.pop("source")
        assert before == after
    assert english.metadata == chinese.metadata
    assert changed == len(prose(path))
