"""What Sphinx lacks for this book: formulas as MathML, links as on GitHub, numbers of lessons."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese


def setup_parts(app: Sphinx) -> None:
    """Register them."""
    # Sphinx 9.0 puts the English stemmer into a Chinese page, and calls it ChineseStemmer.
    SearchChinese.language_name = "English"
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("doctree-read", find_pages)
    app.connect("doctree-read", number_lesson, priority=400)
    app.connect("doctree-read", translate_folds)
    app.connect("html-page-context", mark_translation)
    app.connect("build-finished", copy_map)


def inline_math(writer: Any, node: nodes.math) -> None:
    """Write a formula in a sentence: browsers draw MathML, and screen readers read it."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.math_block) -> None:
    """Write a formula of its own; it scrolls where the page is narrow."""
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="formula" tabindex="0">{formula}</div>')
    raise nodes.SkipNode


def find_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Point links as they stand in files of the repository, ``../GLOSSARY.md#code``, to pages.

    Lessons and README are read on GitHub, too, where the files lie in other folders.
    """
    pages = app.env.found_docs
    for node in doctree.findall(pending_xref):
        target, _, anchor = node["reftarget"].partition("#")
        if node.get("reftype") != "myst" or target in pages:
            continue
        stem = PurePosixPath(target).name.removesuffix(".md").removesuffix(".ipynb")
        stem = "index" if stem == "README" else stem  # the first page includes it
        for name in {stem.lower(), f"lessons/{stem}"} & pages:
            place = {"refdomain": "doc", "reftarget": name}
            node.attributes |= place | {"reftargetid": anchor or node.get("reftargetid")}


def number_lesson(app: Sphinx, doctree: nodes.document) -> None:
    """Put its number before the title of a lesson, before Sphinx collects the titles."""
    folder, _, name = app.env.docname.rpartition("/")
    if folder == "lessons":
        next(doctree.findall(nodes.title)).insert(0, nodes.Text(f"{name[:2]} "))


def translate_folds(app: Sphinx, doctree: nodes.document) -> None:
    """Call the folds of a lesson what they are called in the language of the book."""
    path = Path(app.srcdir, "locale", app.config.language, "folds.yml")
    if not path.exists():
        return
    names = yaml.safe_load(path.read_text(encoding="utf-8"))
    for node in doctree.findall(nodes.Element):
        for key in ("prompt_show", "prompt_hide"):
            if key in node:
                node[key] = names.get(node[key], node[key])
    for text in [text for text in doctree.findall(nodes.Text) if text == "Hint"]:
        text.parent.replace(text, nodes.Text(names["Hint"]))


def mark_translation(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Let a translated page say so where it is behind its English, or not translated at all."""
    language = app.config.language
    if language == "en" or doctree is None:
        return
    from xpuqlib.runner.language import behind

    catalogue = Path(app.srcdir, "locale", language, "LC_MESSAGES", f"{page}.po")
    context["translated"] = catalogue.exists()
    if catalogue.exists():
        context["behind"] = len(behind(page, language, Path(app.srcdir).parent))


def copy_map(app: Sphinx, exception: Exception | None) -> None:
    """Put the map of models beside its page: it is a page of its own, and is not parsed."""
    source = Path(app.srcdir, "map", "index.html")
    if source.exists() and app.builder.format == "html" and not exception:
        (target := Path(app.outdir, "map")).mkdir(exist_ok=True)
        shutil.copy(source, target)
