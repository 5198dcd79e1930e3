"""The glossary: sorted, two sentences a term, and every link of a lesson to it leads somewhere."""

import re

import nbformat
from trial import LESSONS, ROOT

GLOSSARY = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
TERMS = re.findall("^## (.+)$", GLOSSARY, re.MULTILINE)
ANCHORS = {re.sub("[^a-z0-9 -]", "", term.lower()).replace(" ", "-") for term in TERMS}


def test_terms_are_sorted_and_have_two_sentences():
    assert sorted(TERMS, key=str.casefold) == TERMS
    for text in re.split("^## .+$", GLOSSARY, flags=re.MULTILINE)[1:]:
        assert len(re.findall(r"[.](?=\s)", text)) == 2, text


def test_links_to_the_glossary_lead_to_a_term():
    inside = re.findall(r"\]\(#([^)]+)\)", GLOSSARY)
    pages = {path: nbformat.read(path, as_version=4).cells for path in LESSONS}
    said = {path: "\n".join(cell.source for cell in cells) for path, cells in pages.items()}
    links = {path: re.findall(r"GLOSSARY\.md#([^)\s]+)", text) for path, text in said.items()}
    assert set(inside) <= ANCHORS
    for path, anchors in links.items():
        assert set(anchors) <= ANCHORS, path
        assert len(anchors) == len(set(anchors)), f"{path} links a term twice"
    assert any(links.values())
