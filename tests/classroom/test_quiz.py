from types import SimpleNamespace

import ipywidgets
import pytest

from xpuqlib.classroom.quiz import Guess
from xpuqlib.errors import ClassroomError
from xpuqlib.show import explorers

VIEW = "application/vnd.jupyter.widget-view+json"


def guess():
    choices = {"nothing": "It is `fp32` & fast.", "freezing": "It was off."}
    return Guess("Why is `int8` slow?", choices, right="freezing")


def test_where_nobody_listens_the_answer_is_folded_away_and_there_is_no_widget():
    bundle = guess()._repr_mimebundle_()
    assert bundle.keys() == {"text/html", "text/plain"}
    page, text = bundle["text/html"], bundle["text/plain"]
    assert "<code>int8</code>" in page
    before, folded = page.split("<details>")
    assert "It was off." in folded
    assert "It was off." not in before
    assert text.splitlines()[-1] == "The answer: freezing. It was off."


def test_where_a_front_end_listens_there_are_buttons(monkeypatch):
    parent = {"content": {"allow_stdin": True}}
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent))
    monkeypatch.setattr(explorers, "get_ipython", lambda: shell)
    bundle = guess()._repr_mimebundle_()
    assert VIEW in bundle
    assert "<details>" in bundle["text/html"]  # for GitHub, and without the kernel


def test_each_choice_says_why():
    asked = guess()
    assert all(isinstance(button, ipywidgets.Button) for button in asked.buttons.values())
    asked.buttons["nothing"].click()
    assert "Not that." in asked.said.value
    assert "<code>fp32</code> &amp; fast" in asked.said.value
    asked.buttons["freezing"].click()
    assert "✓ freezing" in asked.said.value
    assert "Not that." not in asked.said.value


def test_the_right_answer_must_be_among_the_choices():
    with pytest.raises(ClassroomError, match="not among the choices"):
        Guess("?", {"a": ""}, right="b")
