"""The prose of the lessons in other languages, from the gettext catalogues of the book."""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po, write_po
from markdown_it import MarkdownIt

from xpuqlib.errors import ParameterError, explained
from xpuqlib.machine.files import write_whole

__all__ = [
    "behind",
    "describe_translation",
    "find_language",
    "passages",
    "read_catalogue",
    "renew_catalogues",
    "translate",
    "translate_notebook",
]

LOCALE = Path("docs/locale")
# Short, and the same whoever writes it: no dates, no names of programs.
_HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
# Of files that are kept; what a build of the book writes into docs/_made is no prose.
_INCLUDED = re.compile(r"^```{include} (\.\./\S+)", re.MULTILINE)
# Lines of MyST that CommonMark takes for text; of cards, their titles are.
_DIRECTIVE = re.compile(r"^:(?:::+\{grid-item-card\} (.*)|::.*|[a-z-]+: .*)$", re.MULTILINE)
_MARKDOWN = MarkdownIt("commonmark").enable("table")


def find_language(name: str, root: Path = Path()) -> Path:
    """Folder of the catalogues of a language: ``zh`` and ``zh_CN`` name the same.

    Raises
    ------
    ParameterError
        If there is no translation into this language.
    """
    known = {path.parent.name: path for path in sorted(root.glob(f"{LOCALE}/*/LC_MESSAGES"))}
    for language, folder in known.items():
        if name in (language, language.partition("_")[0]):
            return folder
    there = ", ".join(language.partition("_")[0] for language in known)
    fix = f"There is: {there}." if known else "Run from the project's folder."
    raise ParameterError(f"The lessons are not translated into {name!r}.", fix)


def read_catalogue(folder: Path, docname: str) -> dict[str, str]:
    """Read the translations of a page of the book, by their English; empty without a catalogue.

    What is marked as fuzzy is left out: its English changed since it was translated.

    Raises
    ------
    RunError
        If the catalogue cannot be read.
    """
    path = folder / f"{docname}.po"
    catalogue = _read(path) if path.exists() else ()
    return {m.id: m.string for m in catalogue if m.id and m.string and not m.fuzzy}


def _read(path: Path) -> Catalog:
    fix = "Mend that line, or fetch the file anew: git checkout."
    with explained((PoFileError, ValueError), f"{path} is no catalogue", fix):
        return read_po(io.BytesIO(path.read_bytes()), abort_invalid=True)


def _found(markdown: str) -> Iterator[tuple[int, int, str]]:
    """Give first line, line after the last, and text of all that a person reads."""
    for token in _MARKDOWN.parse(markdown):
        if token.type == "inline" and token.content and not token.content.startswith("$$"):
            yield *token.map, token.content


def _message(content: str) -> str:
    return content.replace("\n", " ").strip()  # as Sphinx writes it into a catalogue


def passages(markdown: str) -> list[str]:
    """Headings, paragraphs, items and cells of tables, as they stand in a catalogue.

    Code, HTML blocks and formulas that stand alone are no passages.
    """
    return [_message(content) for _, _, content in _found(markdown)]


def translate(markdown: str, messages: Mapping[str, str]) -> str:
    """Put translations in the place of passages; one without translation stays as it is.

    A passage of several lines becomes one line.
    """
    lines: list[str | None] = list(markdown.split("\n"))
    row = column = -1
    for first, end, content in _found(markdown):
        column = column if first == row else 0  # a row of a table has several passages
        row, start = first, content.partition("\n")[0]
        column = lines[row].index(start, column)
        before, after = lines[row][:column], lines[row][column + len(start) :]
        translated = messages.get(_message(content), start)
        lines[row] = before + translated + after
        column += len(translated)
        if _message(content) in messages:
            lines[row + 1 : end] = [None] * (end - row - 1)
    return "\n".join(line for line in lines if line is not None)


def translate_notebook(notebook: nbformat.NotebookNode, messages: Mapping[str, str]) -> None:
    """Translate the markdown of a notebook in place, and nothing else of it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = translate(cell.source, messages)


def _prose(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def describe_translation(notebook: Path, catalogues: Path) -> str:
    """Say how much of a notebook is translated; what is not stays English."""
    found = passages(_prose(notebook))
    messages = read_catalogue(catalogues, f"lessons/{notebook.stem}")
    english = sum(passage not in messages for passage in found)
    if not english:
        return f"all {len(found)} passages are translated"
    return f"{english} of {len(found)} passages are not translated, and stay English"


def _source(docname: str, root: Path) -> str:
    with explained(OSError, f"{docname} is no page", "Remove its catalogue, or name it anew."):
        if docname.startswith("lessons/"):
            return _prose(root / "notebooks" / f"{docname.removeprefix('lessons/')}.ipynb")
        path = root / "docs" / f"{docname}.md"
        texts = [path.read_text(encoding="utf-8")]
        # In full, also where a page includes a part: so all of README is translated.
        for name in dict.fromkeys(_INCLUDED.findall(texts[0])):
            texts.append((path.parent / name).read_text(encoding="utf-8"))
    return _DIRECTIVE.sub(r"\n\1\n", "\n\n".join(texts))


def behind(docname: str, language: str = "zh", root: Path = Path()) -> list[str]:
    """Passages of a page whose translation is missing, or older than their English.

    Parameters
    ----------
    docname : str
        As Sphinx names it: ``lessons/03_pt2e_default_configuration``, ``glossary``.
    language : str
    root : pathlib.Path
        The project's folder.

    Raises
    ------
    ParameterError
        If there is no such language.
    RunError
        If there is no such page.
    """
    messages = read_catalogue(find_language(language, root), docname)
    return [passage for passage in passages(_source(docname, root)) if passage not in messages]


def renew_catalogues(root: Path = Path()) -> None:
    """Bring every catalogue up to its page: new passages in, gone ones out, changed ones fuzzy.

    An empty file is a catalogue, too: that is how the translation of a page begins. README is
    also written in each language that has the book's first page.

    Raises
    ------
    RunError
        If a catalogue cannot be read, has no page, or cannot be written.
    """
    for folder in sorted(root.glob(f"{LOCALE}/*/LC_MESSAGES")):
        for path in sorted(folder.rglob("*.po")):
            catalogue, template = _read(path), Catalog()
            for passage in passages(_source(str(path.relative_to(folder).with_suffix("")), root)):
                template.add(passage)
            catalogue.update(template, update_creation_date=False)
            text = io.BytesIO()
            how = {"omit_header": True, "ignore_obsolete": True, "include_previous": True}
            write_po(text, catalogue, width=0, **how)
            write_whole(path, _HEADER.encode() + text.getvalue())
        if messages := read_catalogue(folder, "index"):
            readme = (root / "README.md").read_text(encoding="utf-8")
            write_whole(root / f"README.{folder.parent.name}.md", translate(readme, messages))
