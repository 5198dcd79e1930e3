"""Which runs are worth having: time against accuracy, and nothing within the uncertainty."""

import math

import numpy
import pandas
from scipy.stats import binomtest

__all__ = ["clear_front", "describe_front", "measured"]

ACCURACY, LATENCY = "metrics.top1_quantized", "metrics.latency_quantized_s"
SPREAD, IMAGES = "metrics.latency_quantized_iqr_s", "metrics.images_evaluated"
BATCH = "parameters.batch_size"
NO_FRONT = "no front is drawn"


def measured(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Time and accuracy of the runs that have both, and how certain they are.

    Parameters
    ----------
    frame : pandas.DataFrame
        From `results_frame`.

    Returns
    -------
    pandas.DataFrame
        ``lesson``, ``outcome``, ``latency`` and ``iqr`` (milliseconds per image; a run without
        batch size counts as one image), ``images`` (evaluated), ``accuracy``, ``low`` and ``high``
        (percent; the 95 % Wilson interval). What a record does not hold is NaN.
    """
    wanted = [ACCURACY, LATENCY, SPREAD, IMAGES, BATCH]
    numbers = frame.reindex(columns=wanted).apply(pandas.to_numeric, errors="coerce").astype(float)
    numbers = numbers.dropna(subset=[ACCURACY, LATENCY])
    batch = numbers[BATCH].fillna(1)
    points = frame.loc[numbers.index, ["lesson", "outcome"]].copy()
    points["latency"] = 1000 * numbers[LATENCY] / batch
    points["iqr"] = 1000 * numbers[SPREAD] / batch
    points["images"] = numbers[IMAGES]
    points["accuracy"] = 100 * numbers[ACCURACY]
    pairs = zip(numbers[ACCURACY], numbers[IMAGES], strict=True)
    ends = [_interval(share, images) for share, images in pairs]
    points[["low", "high"]] = numpy.array(ends, dtype=float).reshape(-1, 2)
    return points


def _interval(share: float, images: float) -> tuple[float, float]:
    if not images >= 1:
        return math.nan, math.nan
    interval = binomtest(round(share * images), round(images)).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def _clearly(points: pandas.DataFrame) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Row against column: is it clearly faster, is it clearly more accurate? (n × n, bool)."""
    latency, iqr, low, high = (
        points[name].to_numpy() for name in ("latency", "iqr", "low", "high")
    )
    faster = latency[None, :] - latency[:, None] > numpy.maximum(iqr[:, None], iqr[None, :])
    return faster, low[:, None] > high[None, :]


def clear_front(points: pandas.DataFrame) -> list[str]:
    """Names of the runs on the front, the fastest first.

    A run is on the front if, against every other run, it is clearly faster (the medians differ by
    more than the larger interquartile range) or clearly more accurate (the intervals are apart).
    So any two runs of the front differ beyond the uncertainty in both; a run of unknown spread is
    not on it, and leaves no other run on it.

    Parameters
    ----------
    points : pandas.DataFrame
        From `measured`, of one mode.
    """
    faster, better = _clearly(points)
    wins = faster | better
    numpy.fill_diagonal(wins, True)
    return list(points["latency"][wins.all(axis=1)].sort_values().index)


def describe_front(points: pandas.DataFrame, names: dict[str, str]) -> str:
    """Say in words what `clear_front` finds, and why there is no front where there is none.

    Parameters
    ----------
    points : pandas.DataFrame
        From `measured`, of one mode; two runs or more.
    names : dict of str to str
        What to call each run.
    """
    unknown = points[["iqr", "low"]].isna().any(axis=1).sum()
    if unknown:
        missing = f"The records of {unknown} of {len(points)} runs do not hold the spread of times "
        return f"{missing}or the number of images: the uncertainty is unknown, and {NO_FRONT}."
    front = clear_front(points)
    faster, better = _clearly(points)
    beyond = "than every other run by more than the uncertainty"
    if len(front) > 1:
        listed = "; ".join(names[name] for name in front)
        return f"Pareto front: {listed}. Each is faster or more accurate {beyond}."
    if not (faster | better).any():
        return f"All differences are within the uncertainty, so {NO_FRONT}."
    within = "All differences in {} are within the uncertainty."
    said = f"Only {names[front[0]]} is" if front else "No run is"
    said = f"{said} faster or more accurate {beyond}, so {NO_FRONT}."
    said += f" {within.format('accuracy')}" if not better.any() else ""
    return said + (f" {within.format('time')}" if not faster.any() else "")
