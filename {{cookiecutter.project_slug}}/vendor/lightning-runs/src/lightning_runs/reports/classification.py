"""Sections of the report on a classifier, whatever its items are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from markupsafe import Markup
from torch import Tensor

from . import charts
from .pictures import grid

Section = tuple[str, Callable[[], str]]  # a title, and a function that returns HTML
Z = 1.959964  # standard deviations around the mean that hold 95 % of a normal distribution
BINS = 12  # of the calibration curve
SHOWN = 24  # mistakes


@dataclass(frozen=True)
class ClassificationReport:
    """Draw what a classifier predicted for items whose classes are known.

    Args:
        labels: The true class of each item, ``(N,)`` int64.
        probabilities: The predicted probability of each class, ``(N, num_classes)`` float.
        class_names: The name of each class.
        noun: What the items are, in plural, such as ``rows``.
        show: Called with the position of an item, 0 to N - 1; returns the item's HTML, or a text.
        is_picture: Whether ``show`` returns pictures, which are shown side by side, and not rows of a table.
    """

    labels: Tensor
    probabilities: Tensor
    class_names: Sequence[str]
    noun: str
    show: Callable[[int], str]
    is_picture: bool = False

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable class of each item, ``(N,)`` int64."""
        return self.probabilities.argmax(dim=1)

    @cached_property
    def confidence(self) -> Tensor:
        """The probability of the predicted class, ``(N,)`` float."""
        return self.probabilities.amax(dim=1)

    def sections(self, *titles: str) -> list[Section]:
        """Return the sections with these titles, or all of them; each is drawn when its function is called."""
        functions: dict[str, Callable[[], str]] = {
            "Test result": self.test_result,
            "Confusion matrix": self.confusion_matrix,
            "Each class": self.each_class,
            "Calibration": self.calibration,
            "Surest mistakes": self.mistakes,
        }
        return [(title, functions[title]) for title in titles or functions]

    def test_result(self) -> str:
        """Show accuracy and loss with intervals of 95 %, which follow from the choice of test items alone."""
        count = len(self.labels)
        hits = int((self.predicted == self.labels).sum())
        interval = wilson_interval(hits, count)
        losses = -self.probabilities.double().gather(1, self.labels[:, None]).clamp_min(1e-40).log()
        mean = float(losses.mean())
        half = Z * float(losses.std()) / math.sqrt(count)
        rows = [
            (
                "accuracy",
                f"{hits / count:.2%}",
                f"{interval[0]:.2%} to {interval[1]:.2%} (Wilson), {hits} of {count} {self.noun}",
            ),
            ("loss in nats", f"{mean:.4f}", f"{mean - half:.4f} to {mean + half:.4f} (normal, of the mean)"),
        ]
        return charts.table(["", "value", f"95 % interval, for the choice of test {self.noun}"], rows)

    def confusion_matrix(self) -> str:
        """Show how often each class was taken for each."""
        return charts.confusion_matrix(self.labels, self.predicted, self.class_names)

    def each_class(self) -> str:
        """Show precision, recall and F1 of each class; they are 0 where a class has no item or no prediction."""
        num_classes = len(self.class_names)
        hits = self.labels[self.labels == self.predicted].bincount(minlength=num_classes)
        support = self.labels.bincount(minlength=num_classes)
        predictions = self.predicted.bincount(minlength=num_classes)
        precision = hits / predictions.clamp_min(1)
        recall = hits / support.clamp_min(1)
        f1 = 2 * hits / (support + predictions).clamp_min(1)
        measures = torch.stack([precision, recall, f1], dim=1)  # (num_classes, 3)
        rows: list[tuple] = []
        for i, name in enumerate(self.class_names):
            interval = " to ".join(f"{bound:.3f}" for bound in wilson_interval(int(hits[i]), int(support[i])))
            values = [f"{value:.3f}" for value in measures[i].tolist()]
            rows.append((name, *values, interval, int(support[i])))
        means = measures[support > 0].mean(dim=0).tolist()
        rows.append(("mean", *(f"{value:.3f}" for value in means), None, len(self.labels)))
        head = ["class", "precision", "recall", "F1", "95 % interval of recall", self.noun]
        return charts.table(head, rows, "numbers long")

    def calibration(self) -> str:
        """Compare the probability of the predicted class with how often it is right, in bins of equal width."""
        is_right = self.predicted == self.labels
        bins = (self.confidence * BINS).long().clamp_max(BINS - 1)
        counts = bins.bincount(minlength=BINS)
        filled = counts > 0
        mean_confidence = (bins.bincount(self.confidence.double(), BINS) / counts)[filled]
        accuracy = (bins.bincount(is_right.double(), BINS) / counts)[filled]
        error = float((counts[filled] * (mean_confidence - accuracy).abs()).sum() / len(is_right))
        model = charts.Line("this model", mean_confidence.tolist(), accuracy.tolist(), 0)
        ideal = charts.Line("perfectly calibrated", [0.0, 1.0], [0.0, 1.0], 1)
        chart = charts.line_chart("Share of correct predictions", [model, ideal], "probability of the prediction")
        note = f"Expected calibration error ({BINS} bins): <b>{error:.4f}</b>. Points below the dashed line: too sure."
        return f"<figure>{chart}</figure><p>{note}</p>"

    def mistakes(self) -> str:
        """Show the items that the model predicted wrong with the highest probability."""
        wrong = (self.predicted != self.labels).nonzero().flatten()
        if not len(wrong):
            return f"<p>There are none: all {len(self.labels)} test {self.noun} were predicted correctly.</p>"
        order = self.confidence[wrong].argsort(descending=True, stable=True)
        first = wrong[order][:SHOWN].tolist()
        text = f"<p>{len(first)} of {len(wrong)} mistakes in {len(self.labels)} {self.noun}, the surest first.</p>"
        rows = [(self.show(i), self._name(self.labels, i), self._name(self.predicted, i), i) for i in first]
        if self.is_picture:
            caption = Markup("is <b>{}</b>, taken for <b>{}</b><br>{:.1%}")
            cards = [(Markup(item), caption.format(*names, self.confidence[i])) for item, *names, i in rows]
            return text + grid(cards)
        body = [(item, *names, f"{self.confidence[i]:.1%}") for item, *names, i in rows]
        return text + charts.table([self.noun, "true", "predicted", "probability"], body, "long")

    def _name(self, labels: Tensor, position: int) -> str:
        return self.class_names[int(labels[position])]


def class_table(counts: Mapping[str, Tensor], class_names: Sequence[str]) -> str:
    """Show how many items of each class each part has; ``counts`` has ``(num_classes,)`` int64 by the part's name."""
    columns = [part.tolist() for part in counts.values()]
    rows = [*zip(class_names, *columns, strict=True), ("all", *map(sum, columns))]
    return charts.table(["class", *counts], rows, "numbers long")


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a fraction by Wilson's score, within 0 and 1 (https://doi.org/10.2307/2276774)."""
    if count == 0:
        return 0.0, 1.0
    fraction = hits / count
    square = Z * Z / count
    middle = (fraction + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(fraction * (1 - fraction) / count + square / (4 * count))
    # none or all of them: the bound itself is exact, and rounding must not move it
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == count else middle + half
    return low, high
