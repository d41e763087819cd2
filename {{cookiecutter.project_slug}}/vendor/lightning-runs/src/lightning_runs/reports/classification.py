"""Sections of the report on a classifier, whatever its items are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from markupsafe import Markup
from torch import Tensor
from torchmetrics.functional import classification as metrics

from . import charts

Section = tuple[str, Callable[[], str]]  # a title, and a function that returns HTML
Z = 1.959964  # standard deviations around the mean that hold 95 % of a normal distribution
BINS = 12  # of the calibration error
SHOWN = 24  # mistakes


@dataclass(eq=False)
class ClassificationReport:
    """Draw what a classifier predicted for items whose classes are known."""

    labels: Tensor  # the true class of each item, (N,) int64
    probabilities: Tensor  # predicted, (N, num_classes) float
    class_names: Sequence[str]
    noun: str  # what the items are, in plural, such as rows
    show: Callable[[int], str]  # returns the HTML, or a text, of the item at a position, 0 to N - 1
    is_picture: bool = False  # whether these are pictures, which are shown side by side, and not in a table

    def __post_init__(self) -> None:
        self.predicted = self.probabilities.argmax(dim=1)  # the most probable class of each item, (N,) int64
        self.confidence = self.probabilities.amax(dim=1)  # its probability, (N,) float

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
        square = Z * Z / count
        middle = (hits / count + square / 2) / (1 + square)  # of Wilson's score (https://doi.org/10.2307/2276774)
        half = math.sqrt(square * hits * (count - hits) / count**2 + square**2 / 4) / (1 + square)
        accuracy = f"{max(0.0, middle - half):.2%} to {middle + half:.2%} (Wilson), {hits} of {count} {self.noun}"
        losses = -self.probabilities.double().gather(1, self.labels[:, None]).clamp_min(1e-40).log()
        mean = float(losses.mean())
        half = Z * float(losses.std()) / math.sqrt(count)
        loss = f"{mean - half:.4f} to {mean + half:.4f} (normal, of the mean)"
        rows = [("accuracy", f"{hits / count:.2%}", accuracy), ("loss in nats", f"{mean:.4f}", loss)]
        return charts.table(["", "value", f"95 % interval, for the choice of test {self.noun}"], rows)

    def confusion_matrix(self) -> str:
        """Show how often each class was taken for each."""
        return charts.confusion_matrix(self.labels, self.predicted, self.class_names)

    def each_class(self) -> str:
        """Show precision, recall and F1 of each class; they are 0 where a class has no item or no prediction."""
        num_classes = len(self.class_names)
        support = self.labels.bincount(minlength=num_classes)
        functions = (metrics.multiclass_precision, metrics.multiclass_recall, metrics.multiclass_f1_score)
        columns = [function(self.predicted, self.labels, num_classes, average="none") for function in functions]
        measures = torch.stack(columns, dim=1)  # (num_classes, 3)
        means = measures[support > 0].mean(dim=0)
        rows = []
        for name, values, count in zip(self.class_names, measures, support, strict=True):
            rows.append((name, *(f"{value:.3f}" for value in values), int(count)))
        rows.append(("mean", *(f"{value:.3f}" for value in means), len(self.labels)))
        return charts.table(["class", "precision", "recall", "F1", self.noun], rows, "numbers long")

    def calibration(self) -> str:
        """Compare the probability of the predicted class with how often it is right."""
        is_right = (self.predicted == self.labels).double()
        error = metrics.multiclass_calibration_error(self.probabilities, self.labels, len(self.class_names), BINS)
        return (
            f"<p>The mean probability of the predicted class is {self.confidence.mean():.2%}, and {is_right.mean():.2%}"
            f" of the predictions are correct. Expected calibration error ({BINS} bins): <b>{error:.4f}</b>.</p>"
        )

    def mistakes(self) -> str:
        """Show the items that the model predicted wrong with the highest probability."""
        wrong = (self.predicted != self.labels).nonzero().flatten()
        if not len(wrong):
            return f"<p>There are none: all {len(self.labels)} test {self.noun} were predicted correctly.</p>"
        order = self.confidence[wrong].argsort(descending=True, stable=True)
        first = wrong[order][:SHOWN].tolist()
        text = f"<p>{len(first)} of {len(wrong)} mistakes in {len(self.labels)} {self.noun}, the surest first.</p>"
        rows = []
        for i in first:
            names = [self.class_names[int(labels[i])] for labels in (self.labels, self.predicted)]
            rows.append((self.show(i), *names, f"{self.confidence[i]:.1%}"))
        if self.is_picture:
            caption = Markup("is <b>{}</b>, taken for <b>{}</b><br>{}")
            return text + charts.grid((Markup(item), caption.format(*cells)) for item, *cells in rows)
        return text + charts.table([self.noun, "true", "predicted", "probability"], rows, "long")


def class_table(counts: Mapping[str, Tensor], class_names: Sequence[str]) -> str:
    """Show how many items of each class each part has; ``counts`` has ``(num_classes,)`` int64 by the part's name."""
    columns = [part.tolist() for part in counts.values()]
    rows = [*zip(class_names, *columns, strict=True), ("all", *map(sum, columns))]
    return charts.table(["class", *counts], rows, "numbers long")
