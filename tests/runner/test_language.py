"""The lessons in other languages: only prose changes, and no English sentence changes unseen."""

from pathlib import Path

import nbformat
import pytest
from conftest import no_torch_in_it, write_lesson
from nbformat.v4 import new_code_cell, new_markdown_cell
from typer.testing import CliRunner

from xpuqlib.classroom import grading
from xpuqlib.classroom.course import make_course
from xpuqlib.cli import app
from xpuqlib.errors import ClassroomError, ParameterError, RunError
from xpuqlib.runner.language import (
    behind,
    find_language,
    passages,
    renew_catalogues,
    translate,
)

pytestmark = no_torch_in_it("current")

PAGE = """\
# A *title*

A paragraph
of two lines, with `code`.

- an item
  1. x
- an item

| a | a |
|---|---|
| a | the a |

$$a^2$$

```python
an_item = "an item"
```

<div>
an item
</div>
"""


def test_passages_are_what_a_person_reads():
    paragraph = "A paragraph of two lines, with `code`."
    assert passages(PAGE) == [
        "A *title*",
        paragraph,
        "an item",
        "x",
        "an item",
        "a",
        "a",
        "a",
        "the a",
    ]
    messages = {"A *title*": "T", paragraph: "P `code`", "an item": "I", "a": "aa", "the a": "A"}
    assert translate(PAGE, messages).splitlines() == [
        "# T",
        "",
        "P `code`",
        "",
        "- I",
        "  1. x",
        "- I",
        "",
        "| aa | aa |",
        "|---|---|",
        "| aa | A |",
        *PAGE.splitlines()[12:],
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with one lesson, two passages of which are translated."""
    lesson = write_lesson(tmp_path / "notebooks/01_a.ipynb")
    notebook = nbformat.read(lesson, as_version=4)
    title = new_markdown_cell("# A lesson\n\nSee [code](../GLOSSARY.md#code-span).", id="title")
    parameters = new_code_cell("n: int = 1", metadata={"tags": ["parameters"]}, id="parameters")
    text = new_code_cell('"""\n\nA lesson\n\n"""', id="text")  # of code, so it stays
    notebook.cells[:0] = [title, parameters, text]
    nbformat.write(notebook, lesson)
    (tmp_path / "GLOSSARY.md").write_text("# Glossary\n\n## Code span\n\nCodes.\n")
    included = "```{include} ../GLOSSARY.md\n```\n"
    folder = tmp_path / "docs/locale/zh_CN/LC_MESSAGES"
    (folder / "lessons").mkdir(parents=True)
    (tmp_path / "docs/glossary.md").write_text(included)
    said = {
        "lessons/01_a": {"A lesson": "一课", "See [code](../GLOSSARY.md#code-span).": "看。"},
        "glossary": {"Code span": "码值跨度"},
    }
    for docname, messages in said.items():
        path = folder / f"{docname}.po"
        path.touch()
        renew_catalogues(tmp_path)
        text = path.read_text(encoding="utf-8")
        for english, chinese in messages.items():
            entry = f'msgid "{english}"\nmsgstr "'
            assert entry in text
            text = text.replace(entry, entry + chinese)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rewrite(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_a_changed_sentence_is_behind_until_it_is_looked_at(project):
    catalogue = project / "docs/locale/zh_CN/LC_MESSAGES/lessons/01_a.po"
    exercise = "Exercise 1.1: steps"
    assert behind("lessons/01_a") == [exercise]
    rewrite(project / "notebooks/01_a.ipynb", "# A lesson", "# A new lesson")
    assert behind("lessons/01_a") == ["A new lesson", exercise]
    renew_catalogues()
    assert behind("lessons/01_a") == ["A new lesson", exercise]
    text = catalogue.read_text(encoding="utf-8")
    entry = '#, fuzzy\n#| msgid "A lesson"\nmsgid "A new lesson"\nmsgstr "一课"\n'
    assert entry in text
    assert 'msgid "A lesson"\n' not in text.replace(entry, "")
    rewrite(catalogue, "#, fuzzy\n", "")
    assert behind("lessons/01_a") == [exercise]
    rewrite(project / "notebooks/01_a.ipynb", "See [code](../GLOSSARY.md#code-span).", "")
    renew_catalogues()
    renewed = catalogue.read_text(encoding="utf-8")
    assert "See" not in renewed
    renew_catalogues()
    assert catalogue.read_text(encoding="utf-8") == renewed


def test_a_page_has_what_it_includes_and_no_directives(project):
    (project / "docs/index.md").write_text(
        "# Book\n\n::::{grid} 1 1\n:gutter: 3\n\n:::{grid-item-card} A card\nIts text.\n:::\n"
        "::::\n\n```{include} ../README.md\n:start-after: Title\n```\n\n"
        "```{include} _made/rows.md\n```\n"
    )
    (project / "README.md").write_text("# Title\n\nA sentence.\n")
    catalogue = project / "docs/locale/zh_CN/LC_MESSAGES/index.po"
    catalogue.touch()
    assert behind("index") == ["Book", "A card", "Its text.", "Title", "A sentence."]
    renew_catalogues()
    assert not (project / "README.zh_CN.md").exists()
    rewrite(catalogue, 'msgid "A sentence."\nmsgstr "', 'msgid "A sentence."\nmsgstr "一句。')
    renew_catalogues()
    readme = (project / "README.zh_CN.md").read_text(encoding="utf-8")
    assert readme == "# Title\n\n一句。\n"


def test_a_catalogue_without_its_page_is_named(project):
    (project / "docs/locale/zh_CN/LC_MESSAGES/gone.po").touch()
    with pytest.raises(RunError, match="gone is no page"):
        renew_catalogues()


@pytest.mark.parametrize("name", ["zh", "zh_CN"])
def test_a_language_has_two_names(project, name):
    assert find_language(name).parent.name == "zh_CN"


@pytest.mark.parametrize("command", [["run", "01"], ["classroom", "course"]])
def test_an_unknown_language_is_refused_before_anything_is_made(project, command):
    result = CliRunner().invoke(app, [*command, "--language", "z"])
    assert isinstance(result.exception, ParameterError)
    assert "into 'z'.\n  Fix: There is: zh." in str(result.exception)
    assert not {"runs", "course"} & {path.name for path in project.iterdir()}


def test_a_folder_without_catalogues_has_no_language(tmp_path):
    with pytest.raises(ParameterError, match="Run from the project"):
        find_language("zh", tmp_path)


def test_a_broken_catalogue_is_named(project):
    catalogue = project / "docs/locale/zh_CN/LC_MESSAGES/lessons/01_a.po"
    rewrite(catalogue, 'msgstr "一课"', 'mgstr "一课"')
    with pytest.raises(RunError, match=r"01_a\.po is no catalogue"):
        behind("lessons/01_a")


@pytest.mark.slow
def test_a_run_says_how_much_stays_english(project):
    result = CliRunner().invoke(app, ["run", "--language", "zh", "--out", "out"])
    assert "zh: 1 of 3 passages are not translated, and stay English" in result.output
    cells = nbformat.read("out/01_a.ipynb", as_version=4).cells
    assert any("# 一课\n\n看。" in cell.source for cell in cells)
    assert any("### Exercise 1.1: steps" in cell.source for cell in cells)


def test_a_course_has_the_same_code_and_a_translated_glossary(project):
    result = CliRunner().invoke(app, ["classroom", "course", "--language", "zh"])
    assert result.exit_code == 0, result.output
    assert "01_a: 1 of 3 passages" in result.output
    made = nbformat.read("course/source/01_a/01_a.ipynb", as_version=4)
    source = nbformat.read("notebooks/01_a.ipynb", as_version=4)
    assert made.cells[0].source.startswith("# 一课")
    assert [c for c in made.cells if c.cell_type == "code"] == [
        c for c in source.cells if c.cell_type == "code"
    ]
    glossary = Path("course/GLOSSARY.md").read_text(encoding="utf-8")
    assert '<a id="code-span"></a>\n\n## 码值跨度\n' in glossary


def test_the_course_that_is_proved_has_the_language(project, monkeypatch):
    (project / "notebooks/wrong_answers").mkdir()
    kept = "steps: [{answer: steps = 1, hint: Count}]"
    (project / "notebooks/wrong_answers/01_a.yml").write_text(kept)

    def stop(folder, lessons, catalogues):
        raise ClassroomError(catalogues.parent.name, "")

    monkeypatch.setattr(grading, "make_course", stop)
    result = CliRunner().invoke(app, ["classroom", "--check", "--language", "zh"])
    assert result.exception.cause == "zh_CN"


def test_a_course_without_a_language_has_the_glossary_as_it_is(project):
    make_course(project / "course", [project / "notebooks/01_a.ipynb"])
    for name in ("GLOSSARY.md", "notebooks/01_a.ipynb"):
        assert "一课" not in (project / name).read_text(encoding="utf-8")
    glossary = (project / "course/GLOSSARY.md").read_text(encoding="utf-8")
    assert glossary == (project / "GLOSSARY.md").read_text(encoding="utf-8")
