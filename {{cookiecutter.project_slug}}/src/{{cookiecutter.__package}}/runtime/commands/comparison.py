"""The comparison of two samples, statistic by statistic: what differs more than by chance, and how much."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WORDS = 20  # the most frequent words of a column, or classes; all others count as one
OTHERS, UNKNOWN = "(all others)", "(missing or unknown)"
DRAWS = (2_000, 98_000)  # tables that are drawn at random; the second ones only where the first leave a doubt

Values = Sequence[float | str | None]


@dataclass
class Comparison:
    """One statistic, before and now.

    Args:
        name: The statistic.
        before: Its numbers of the reference, sorted; of words, how often each is there.
        now: Those of what was served.
        difference: Between 0, none, and 1, nothing in common: the largest distance of two cumulative distributions of
            numbers (Kolmogorov and Smirnov), and of words the total variation.
        p: The probability of such a difference, or a larger one, where nothing has changed.
        adjusted: That of one such among all comparisons (Holm).
        drifts: Whether it is too small, and the difference large enough, for chance.
    """

    name: str
    before: Any
    now: Any
    difference: float
    p: float
    adjusted: float = 1.0
    drifts: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table: means of numbers, or the shares of the word whose share has changed most."""
        if isinstance(self.before, Counter):
            before, now = self.before.total(), self.now.total()
            most = max(self.before | self.now, key=lambda word: abs(self.before[word] / before - self.now[word] / now))
            texts = [f"{most}: {of[most] / of.total():.1%}" for of in (self.before, self.now)]
        else:
            texts = [f"{of.mean():.4g}" for of in (self.before, self.now)]
        p = f"{self.adjusted:.2g}" if self.adjusted >= 1e-6 else "< 1e-6"
        return self.name, *texts, f"{self.difference:.3f}", p, "drift" if self.drifts else ""


def compare(
    reference: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], level: float, least: float = 0.0
) -> list[Comparison]:
    """Compare every statistic, and the predictions; what differs most surely comes first.

    Args:
        reference: What `export` has written.
        rows: Predictions as they are kept.
        level: The probability of at least one alarm where nothing has changed.
        least: The smallest difference that is drift.
    """
    name, kind = ("predicted class", str) if reference["classes"] else ("prediction", float)
    labels = (reference["labels"], [row["label"] for row in rows])
    found = [*_compared(name, *([label if label is None else kind(label) for label in of] for of in labels))]
    found += _compared("probability", reference["probabilities"], [row["probability"] for row in rows])
    for name, before in reference["statistics"].items():
        found += _compared(name, before, [row["statistics"].get(name) for row in rows])
    found.sort(key=lambda one: (one.p, -one.difference))
    largest = 0.0
    for i, one in enumerate(found):  # Holm, 1979
        largest = one.adjusted = max(largest, min(1.0, (len(found) - i) * one.p))
        one.drifts = one.adjusted <= level and one.difference >= least
    return found


def _compared(name: str, before: Values, now: Values) -> Iterator[Comparison]:
    """Compare the words, or the numbers and how many are missing; nothing where there are none."""
    if any(isinstance(value, str) for value in (*before, *now)):
        words = [[UNKNOWN if value is None else value for value in values] for values in (before, now)]
        kept = dict(Counter(words[0] + words[1]).most_common(WORDS))
        yield _words(name, *(Counter(word if word in kept else OTHERS for word in of) for of in words))
        return
    numbers = [np.sort([value for value in values if value is not None]).astype(float) for values in (before, now)]
    if all(map(len, numbers)):
        yield _numbers(name, *numbers)
    missing = [Counter("missing" if value is None else "there" for value in values) for values in (before, now)]
    if missing[0]["there"] and (missing[0] + missing[1])["missing"]:
        yield _words(f"{name}, missing", *missing)


def _numbers(name: str, before: np.ndarray, now: np.ndarray) -> Comparison:
    """The test of Kolmogorov and Smirnov, with the correction of Stephens (1970) for small samples.

    Where values are often equal, the probability is too large: it alarms more rarely than the level allows.
    """
    every = np.concatenate([before, now])
    cumulative = [np.searchsorted(of, every, side="right") / len(of) for of in (before, now)]
    distance = float(np.abs(cumulative[0] - cumulative[1]).max())
    root = math.sqrt(len(before) * len(now) / len(every))
    x = (root + 0.12 + 0.11 / root) * distance
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101)) if x > 0.2 else 1.0
    return Comparison(name, before, now, distance, min(1.0, p))


def _words(name: str, before: Counter, now: Counter) -> Comparison:
    """The exact test of independence: chi-square of tables with the same sums, which are drawn at random."""
    words = sorted(before | now)
    counts = np.array([[of[word] for word in words] for of in (before, now)])
    each, (first, second) = counts.sum(axis=0), counts.sum(axis=1)
    expected, random = each * second / each.sum(), np.random.default_rng(0)
    reached, drawn, chi_square = 0, 0, ((counts[1] - expected) ** 2 / each).sum()
    for draws in DRAWS:
        if reached > drawn / 10:
            break
        tables = random.multivariate_hypergeometric(each, second, draws, method="marginals")
        reached += int((((tables - expected) ** 2 / each).sum(axis=1) >= chi_square * (1 - 1e-9)).sum())
        drawn += draws
    difference = float(np.abs(counts[0] / first - counts[1] / second).sum() / 2)
    return Comparison(name, before, now, difference, (1 + reached) / (1 + drawn))
