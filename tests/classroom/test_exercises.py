import math

import pytest
import torch

from xpuqlib.classroom.exercises import check

ONES = torch.ones(2, 3)


def judge(capsys, answer, expected=255, **settings):
    """Points, and what was shown."""
    settings = {"usual": {"256 codes have 255 steps.": 256}, "hint": "Count."} | settings
    points = check(answer, expected, points=2, **settings)
    return points, capsys.readouterr().out


@pytest.mark.parametrize("answer", [..., None, lambda: None, (..., ...), [[None, None], None]])
def test_an_open_exercise_is_said_to_be_open(capsys, answer):
    points, said = judge(capsys, answer)
    assert points == 0
    assert "0 of 2 points. Not attempted yet. Write" in said


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (255, 255),
        (lambda: 255.0, 255),
        (torch.tensor(255), 255),
        (" Conv1 ", "conv1"),
        (True, True),
        ({"a", "b"}, {"b", "a"}),
        ({"a": 1}, {"a": 1}),
        ((1.0, 2), [1, 2]),
        (ONES.clone(), ONES),
    ],
)
def test_a_right_answer_gets_all_points(capsys, answer, expected):
    points, said = judge(capsys, answer, expected)
    assert points == 2
    assert "2 of 2 points. Right." in said


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (254, 255),
        ("255", 255),
        (255, "255"),
        (math.nan, 255),
        (1, True),
        (True, 1),
        (ONES[:1], ONES),
        ((2.0, 1, 3), (1, 2.0)),
        ((0.5, 7), (8, 0.25)),
        (2 * ONES, ONES),
        (255, ONES),
        ([1, 2, 3], [1, 2]),
        ({"a": 2}, {"a": 1}),
        ({"b": 1}, {"a": 1}),
        ("a", {"a"}),
    ],
)
def test_a_wrong_answer_gets_the_general_hint(capsys, answer, expected):
    points, said = judge(capsys, answer, expected)
    assert points == 0
    assert "0 of 2 points. Count." in said


def test_a_usual_mistake_is_named(capsys):
    assert "256 codes have 255 steps" in judge(capsys, 256)[1]
    usual = {"Too small.": lambda answer: answer < 255}
    assert "Too small." in judge(capsys, 3, usual=usual)[1]


@pytest.mark.parametrize(
    ("answer", "expected", "hint"),
    [
        (ONES.double(), ONES, "the dtype is not: torch.float32 is due"),
        ([ONES, ONES], [ONES, ONES.to(torch.int8)], "the dtype is not"),
        ((-3, 0.5), (0.5, -3), "in the wrong order"),
        ([[(-3, 0.5)], [(0, 1.5)]], [[(0.5, -3)], [(1.5, 0)]], "in the wrong order"),
        ((0.5, None), (0.5, -3), "Not attempted yet, in part"),
        ([[(0.5, ...)], [(1.5, 0)]], [[(0.5, -3)], [(1.5, 0)]], "Not attempted yet, in part"),
    ],
)
def test_what_is_nearly_right_is_told_what_it_lacks(capsys, answer, expected, hint):
    points, said = judge(capsys, answer, expected)
    assert points == 0
    assert hint in said


def test_a_hint_of_the_exercise_comes_before_the_general_ones(capsys):
    usual = {"The scale comes first.": lambda pair: pair[0] == -3}
    assert "The scale comes first." in judge(capsys, (-3, 0.5), (0.5, -3), usual=usual)[1]


def test_a_recognizer_that_fails_is_not_the_error_of_the_student(capsys):
    usual = {"Two parts.": lambda answer: len(answer) == 2, "Too small.": 254}
    assert "Too small." in judge(capsys, 254, usual=usual)[1]
    assert "Count." in judge(capsys, 253, usual=usual)[1]


def test_tolerance_is_relative(capsys):
    assert judge(capsys, 255.1, tolerance=1e-3)[0] == 2
    assert judge(capsys, 255.1, tolerance=1e-5)[0] == 0
    assert judge(capsys, 1.0001 * ONES, ONES, tolerance=1e-3)[0] == 2


def test_what_the_answer_raises_is_shown_and_stops_nothing(capsys):
    points, said = judge(capsys, lambda: 1 / 0)
    assert points == 0
    assert "Your code raised ZeroDivisionError: division by zero" in said


def test_an_error_of_the_comparison_is_not_one_of_the_student(capsys):
    points, said = judge(capsys, torch.ones(2, 3, device="meta"), ONES)
    assert points == 0
    assert "The check itself failed" in said
    assert "report it: NotImplementedError" in said
    assert "Your code" not in said.replace("error of your code", "")


def test_an_error_of_a_recognizer_is_one_of_the_check(capsys):
    usual = {"Too small.": lambda answer: answer < undefined}  # noqa: F821
    points, said = judge(capsys, 254, usual=usual)
    assert points == 0
    assert "report it: NameError: name 'undefined'" in said
    assert judge(capsys, 255, usual=usual)[0] == 2  # a right answer needs no recognizer
