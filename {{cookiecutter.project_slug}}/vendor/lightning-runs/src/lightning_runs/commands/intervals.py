"""Mean, spread and 95 % interval of a metric over several runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Summary(NamedTuple):
    """A metric over several runs: its mean, standard deviation, and the bounds of the mean's 95 % interval."""

    mean: float
    std: float
    low: float
    high: float


def summarize(values: Sequence[float], folds: bool) -> Summary:
    """Summarise values of at least two runs.

    The interval is that of Student's t. Folds share most of their training data, so that their values vary less than
    those of independent data would. Nadeau and Bengio (2003, https://doi.org/10.1023/A:1024068626366) enlarge the
    variance of the mean for that: 1/k becomes 1/k + 1/(k - 1), where 1/(k - 1) is the size of the part for validation
    by that of the part for training.

    Args:
        values: A value for each run.
        folds: Whether the runs are all k folds of the same data; otherwise they are independent, such as seeds.
    """
    count = len(values)
    if not all(map(math.isfinite, values)):
        return Summary(math.nan, math.nan, math.nan, math.nan)
    mean, std = fmean(values), stdev(values)
    half = t_quantile(0.975, count - 1) * std * math.sqrt(1 / count + (1 / (count - 1) if folds else 0))
    return Summary(mean, std, mean - half, mean + half)


def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t, by bisection of its distribution function over the angle atan(t / sqrt(freedom)).

    Args:
        probability: Between 0.5 and 1.
        freedom: Degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):  # each halves the error, down to that of a float
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """The probability that t lies between -sqrt(freedom) tan(angle) and that.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4: a sum of positive terms.
    """
    odd, square = freedom % 2, math.cos(angle) ** 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= square * i / (i + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total
