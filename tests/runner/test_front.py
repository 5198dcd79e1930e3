import numpy
import pandas
import pytest

from xpuqlib.runner.front import clear_front, describe_front, measured


def points(**runs):
    """Each run is (latency, accuracy), or with its IQR and half its interval behind them."""
    rows = {
        name: dict(zip(["latency", "accuracy", "iqr", "half"], [*run, 0.1, 1.0][:4], strict=True))
        for name, run in runs.items()
    }
    frame = pandas.DataFrame.from_dict(rows, orient="index")
    low, high = frame["accuracy"] - frame["half"], frame["accuracy"] + frame["half"]
    return frame.assign(low=low, high=high)


def said(found):
    return describe_front(found, {name: name.upper() for name in found.index})


def test_a_front_of_clear_differences():
    found = points(slow=(3.0, 95), fast=(1.0, 80), worse=(2.0, 75), between=(2.0, 90))
    assert clear_front(found) == ["fast", "between", "slow"]
    assert said(found).startswith("Pareto front: FAST; BETWEEN; SLOW. Each is faster or more")


def test_all_within_the_uncertainty_is_no_front():
    found = points(a=(1.00, 90.0), b=(1.05, 91.0), c=(1.09, 91.5))
    assert clear_front(found) == []
    assert said(found) == "All differences are within the uncertainty, so no front is drawn."


def test_a_difference_within_either_spread_is_none():
    apart = points(fast=(1.0, 80), slow=(1.5, 90))
    assert clear_front(apart) == ["fast", "slow"]
    assert clear_front(points(fast=(1.0, 80), slow=(1.5, 90, 0.6))) == ["slow"]
    assert clear_front(points(fast=(1.0, 80), slow=(1.5, 90, 0.1, 9.5))) == ["fast"]


def test_equal_accuracies_are_said_to_be_equal():
    found = points(fast=(1.0, 98), slow=(2.0, 98), slower=(3.0, 98.5))
    assert clear_front(found) == ["fast"]
    assert said(found).startswith("Only FAST is faster or more accurate than every other run")
    assert said(found).endswith("All differences in accuracy are within the uncertainty.")
    twins = points(one=(1.0, 98), other=(1.01, 98), slow=(2.0, 98))
    assert clear_front(twins) == []
    assert said(twins).startswith("No run is faster or more accurate than every other run")


def test_a_run_of_unknown_spread_leaves_no_front():
    found = points(fast=(1.0, 80), slow=(2.0, 90), old=(9.0, 10))
    assert clear_front(found) == ["fast", "slow"]
    found.loc["old", ["iqr", "low", "high"]] = numpy.nan
    assert clear_front(found) == []
    assert said(found).startswith("The records of 1 of 3 runs do not hold the spread")


def test_what_was_measured_with_its_uncertainty():
    frame = pandas.DataFrame(
        {
            "lesson": "a",
            "outcome": "rehearsed",
            "parameters.batch_size": [10, 10, None],
            "metrics.top1_quantized": [0.9, 1.0, None],
            "metrics.latency_quantized_s": [0.02, 0.01, 0.01],
            "metrics.latency_quantized_iqr_s": [0.001, None, None],
            "metrics.images_evaluated": [100, None, None],
        },
        index=["new", "old", "without"],
    )
    found = measured(frame)
    assert list(found.index) == ["new", "old"]
    new = found.loc["new"]
    assert (new["latency"], new["iqr"], new["accuracy"]) == pytest.approx((2.0, 0.1, 90))
    # Wilson's interval by its formula, with z = 1.96 of 95 %
    z, n, p = 1.959964, 100, 0.9
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    expected = (100 * (centre - half), 100 * (centre + half))
    assert (new["low"], new["high"]) == pytest.approx(expected, abs=1e-3)
    assert found.loc["old", ["iqr", "low", "high"]].isna().all()


def test_no_run_measured_anything():
    frame = pandas.DataFrame({"lesson": ["a"], "outcome": ["failed"]}, index=["x"])
    assert measured(frame).empty
