import pytest

from xpuqlib.errors import ParameterError, RunError
from xpuqlib.runner.grid import Grid, read_grid


def test_every_combination_the_last_parameter_first():
    runs = Grid(parameters={"b": [1, 2], "a": ["x", "y"], "seed": 7}).runs()
    assert [(run["b"], run["a"]) for run in runs] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert {run["seed"] for run in runs} == {7}


def test_a_file_with_exclude_and_include(tmp_path):
    (tmp_path / "g.yaml").write_text(
        "parameters: {a: [1, 2], b: [x, y]}\n"
        "exclude: [{a: 2, b: y}]\n"
        "include: [{a: 9, c: true}, {a: 1, b: x}, {a: 9, c: true}]\n"
    )
    assert read_grid(tmp_path / "g.yaml").runs() == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 9, "c": True},
    ]


def test_include_alone_and_nothing_at_all():
    assert Grid(include=[{"a": 1}]).runs() == [{"a": 1}]
    assert Grid().runs() == [{}]  # one run with the defaults


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"parameters": {"a": [1]}, "exclude": [{"a": 1}]}, "The grid is empty"),
        ({"parameters": {"a": [1]}, "exclude": [{"a": 2}]}, "fits no run"),
        ({"parameters": {"a": []}}, "a has no value"),
    ],
)
def test_a_grid_without_sense_is_an_error(grid, message):
    with pytest.raises(ParameterError, match=message):
        Grid(**grid).runs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("matrix: {a: [1]}", "matrix: Extra inputs are not permitted"),
        ("exclude: {a: 1}", "exclude: Input should be a valid list"),
        ("a: [", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_another_form_is_an_error(tmp_path, text, message):
    path = tmp_path / "g.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=message):
        read_grid(path)
