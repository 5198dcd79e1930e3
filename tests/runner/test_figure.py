import pytest
from test_front import points

from xpuqlib.runner import figure


@pytest.fixture
def drawn(monkeypatch):
    """Figures, as they are when they become images."""
    kept = []
    monkeypatch.setattr(figure, "print_figure", lambda made, **kwargs: kept.append(made) or "")
    return kept


def draw(found, drawn):
    found = found.assign(outcome="rehearsed", images=450)
    page = figure.draw_runs(found, {name: f"run {name}" for name in found.index}, "A", "model")
    return page, drawn[-1].axes[0]


def texts(axes):
    return {text.get_text() for text in axes.texts}


@pytest.mark.parametrize("number", [3, 12])
def test_every_run_up_to_a_dozen_has_its_name(number, drawn):
    found = points(**{f"r{n}": (1.0 + n, 50) for n in range(number)})
    assert texts(draw(found, drawn)[1]) == {"model", *(f"run r{n}" for n in range(number))}


def test_of_more_runs_those_on_the_front_are_named(drawn):
    found = points(**{f"r{n}": (1.0 + n, 50 if n else 40) for n in range(12)}, best=(1.5, 60))
    page, axes = draw(found, drawn)
    assert texts(axes) == {"model", "run r0", "run best"}
    assert "Of 13 runs only those on a front are named." in page


@pytest.mark.parametrize(("accuracy", "top"), [(100, 100), (99.9, 100), (60, 63)])
def test_a_percent_axis_ends_at_100(accuracy, top, drawn):
    low, high = draw(points(a=(1, accuracy), b=(2, accuracy), c=(3, 50)), drawn)[1].get_ylim()
    assert 0 <= low < 50
    assert accuracy <= high <= top


def test_bars_are_the_uncertainty(drawn):
    page, axes = draw(points(a=(1, 90, 0.2, 3), b=(2, 80), c=(3, 70)), drawn)
    [container] = axes.containers
    across, up = (lines.get_segments()[0] for lines in container[2])
    assert list(across[:, 0]) == pytest.approx([0.9, 1.1])
    assert list(up[:, 1]) == pytest.approx([87, 93])
    assert "Bars: " in page


@pytest.mark.filterwarnings("error")
def test_a_spread_larger_than_the_time_leaves_the_layout(drawn):
    found = points(a=(0.4, 98, 18), b=(5, 98, 30), c=(7, 98))
    axes = draw(found, drawn)[1]
    drawn[-1].draw_without_rendering()  # constrained layout warns where nothing fits
    low, high = axes.get_xlim()
    assert 0.1 < low < 0.4
    assert 7 < high < 100
    box = axes.get_position()
    assert box.width > 0.4


def test_a_front_is_drawn_only_where_one_is_clear(drawn):
    def labels(found):
        return [line.get_label() for line in draw(found, drawn)[1].lines]

    assert "Pareto front, rehearsed" in labels(points(a=(1, 50), b=(2, 60), c=(3, 70)))
    assert "Pareto front, rehearsed" not in labels(points(a=(1, 50), b=(2, 50), c=(3, 51)))


def test_an_image_has_a_text(drawn):
    page, _ = draw(points(a=(1, 50), b=(2, 60), c=(3, 70)), drawn)
    said = "Accuracy over time of 3 runs. rehearsed: Pareto front: run a; run b; run c."
    assert f'alt="{said}' in page


def test_of_more_runs_without_a_front_none_is_named(drawn):
    found = points(**{f"r{n}": (1.0, 50) for n in range(13)})
    page, axes = draw(found, drawn)
    assert texts(axes) <= {"model"}
    assert "Of 13 runs none is on a front or named." in page
