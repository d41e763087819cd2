"""How predictions are looked at: simple models beside it, pictures, sections of the report, what is exported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .network import Standardize
from .runtime.commands import charts

if TYPE_CHECKING:
    from .data import DataModule
    from .module import TableModel

LISTED = 24  # classes, columns and rows that a table of the report has
SIMPLE = "For a linear model and gradient boosting on the same rows: pip install -e '.[baselines]', then train again."


class Predictor(nn.Module):
    """Map the columns of a table as they are read, ``(B, C)`` float32, to probabilities ``(B, C)`` or numbers ``(B,)``.

    Args:
        model: The model; ``facts`` of it are plain values, which are written into the exported files.
    """

    def __init__(self, model: TableModel) -> None:
        super().__init__()
        self.facts, self.mean, self.std, self.num_outputs = model.facts, model.mean, model.std, model.num_outputs
        self.standardize, self.network = Standardize(model.facts["columns"]), model.network

    def forward(self, columns: Tensor) -> Tensor:
        """Predict rows."""
        outputs = self.network(*self.standardize(columns)).float()
        return outputs.softmax(dim=1) if self.num_outputs > 1 else outputs[:, 0] * self.std + self.mean


def measure(predicted: Tensor, true: Tensor, classes: bool) -> dict[str, float]:
    """Return the test metrics of predicted classes, or of numbers, ``(N,)``."""
    if classes:
        return {"test/accuracy": (predicted == true).double().mean().item()}
    error = (predicted.double() - true.double()).square().mean()
    return {"test/rmse": error.sqrt().item(), "test/r2": (1 - error / true.double().var(correction=0)).item()}


def baselines(data: DataModule) -> dict[str, dict[str, float]]:
    """Train simple models on the run's own training rows, and measure them on its test rows.

    Those of scikit-learn are there if it is installed. Merely installed, it slows the start of every command.
    """
    data.setup("fit")
    (rows, train), (_, test), classes = data.splits["train"], data.splits["test"], data.class_names is not None
    numbers, words, targets = rows.tensors
    mean, std = (data.facts["target"].get(name, default) for name, default in (("mean", 0.0), ("std", 1.0)))
    if classes:
        found = {"most frequent class": targets[train].bincount().argmax().expand(len(test))}
    else:
        found = {"mean of the training rows": torch.zeros(len(test))}
    if find_spec("sklearn"):
        from sklearn import ensemble, linear_model

        one_hot = [nn.functional.one_hot(words[:, i], size) for i, size in enumerate(data.vocabulary_sizes)]
        kind = "Classifier" if classes else "Regressor"
        linear: Any = linear_model.LogisticRegression(max_iter=1000) if classes else linear_model.Ridge()
        boosting = getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=0)
        for name, model, features in (
            ("linear model", linear, torch.cat([numbers, *one_hot], dim=1).numpy()),
            ("gradient boosting", boosting, torch.cat([numbers, words], dim=1).numpy()),
        ):
            model.fit(features[train], targets[train].numpy())
            found[name] = torch.from_numpy(model.predict(features[test]))
    if classes:
        return {name: measure(predicted, targets[test], True) for name, predicted in found.items()}
    true = targets[test].double() * std + mean
    return {name: measure(predicted * std + mean, true, False) for name, predicted in found.items()}


def draw_confusion(labels: Tensor, predicted: Tensor, names: list[str]) -> Any:
    """Draw how often each class, ``(N,)``, was taken for each; of many classes the first ones."""
    from PIL import Image, ImageDraw

    names = names[:LISTED]
    picture = Image.new("RGB", (110 + 70 * len(names), 30 + 22 * len(names)), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((8, 8), "true \\ predicted", fill="black")
    for i, name in enumerate(names):
        pen.text((8, 30 + 22 * i), charts.shortened(name, 15), fill="black")
        pen.text((110 + 70 * i, 8), charts.shortened(name, 10), fill="black")
        for j in range(len(names)):
            count = int(((labels == i) & (predicted == j)).sum())
            pen.text((110 + 70 * j, 30 + 22 * i), str(count), fill="black" if i == j or not count else "red")
    return picture


def draw_scatter(true: Tensor, predicted: Tensor) -> Any:
    """Draw predicted numbers, ``(N,)``, over the true ones; right ones lie on the line."""
    from PIL import Image, ImageDraw

    picture, size = Image.new("RGB", (360, 360), "white"), 360
    pen = ImageDraw.Draw(picture)
    low, high = min(true.min(), predicted.min()).item(), max(true.max(), predicted.max()).item()
    pen.line((20, size - 20, size - 20, 20), fill="gray")
    pen.text((8, 4), f"predicted over true, {low:.4g} to {high:.4g}", fill="black")
    for point in torch.stack([true, predicted], dim=1).tolist():
        x, y = (20 + (size - 40) * (value - low) / ((high - low) or 1.0) for value in point)
        pen.ellipse((x - 2, size - y - 2, x + 2, size - y + 2), fill="blue")
    return picture


def sections(
    predictions: dict[str, Tensor], model: TableModel, data: DataModule
) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone."""
    data.setup("test")
    index, (rows, _), names = predictions["index"], data.splits["test"], data.class_names
    lines = [data.row_names[i] for i in index.tolist()]
    if names is not None:
        labels, (sure, predicted) = rows.tensors[2][index], predictions["probabilities"].max(dim=1)
        shown = [
            ("Confusion matrix", partial(confusion_matrix, labels, predicted, names)),
            ("Surest mistakes", partial(mistakes, labels, predicted, sure, names, lines)),
        ]
    else:
        true, predicted = rows.tensors[2][index].double() * model.std + model.mean, predictions["prediction"]
        shown = [
            ("Predicted and true", partial(scatter, true, predicted)),
            ("Largest errors", partial(residuals, true, predicted, lines)),
        ]
    shown.append(("Which columns matter", partial(importance, index, model, data)))
    return [*shown, ("Data", partial(contents, data))]


def confusion_matrix(labels: Tensor, predicted: Tensor, names: list[str]) -> str:
    """Show how often each class was taken for each, and how many of each were found; of many classes, the pairs."""
    pairs, counts = torch.stack([labels, predicted], dim=1).unique(dim=0, return_counts=True)
    found = {(int(i), int(j)): int(count) for (i, j), count in zip(pairs, counts, strict=True)}
    if len(names) > LISTED:
        wrong = sorted((pair for pair in found if pair[0] != pair[1]), key=lambda pair: -found[pair])[:LISTED]
        body = [(names[i], names[j], found[i, j]) for i, j in wrong]
        return charts.table(["true", "predicted", "rows"], body, "numbers")
    body = []
    for i, name in enumerate(names):
        counts = [found.get((i, j), 0) for j in range(len(names))]
        share = f"{counts[i] / sum(counts):.1%}" if sum(counts) else None
        body.append((name, *counts, share))
    return charts.table(["true \\ predicted", *names, "found"], body, "numbers")


def mistakes(labels: Tensor, predicted: Tensor, sure: Tensor, names: list[str], lines: list[str]) -> str:
    """Show the test rows that the model was surest of among those that it got wrong."""
    wrong = (predicted != labels).nonzero().flatten()
    first = wrong[sure[wrong].argsort(descending=True, stable=True)][:LISTED].tolist()
    body = [(lines[i], names[labels[i]], names[predicted[i]], f"{sure[i]:.1%}") for i in first]
    told = f"<p>{len(wrong)} of {len(labels)} rows are wrong.</p>"
    return told + (charts.table(["row", "true", "predicted", "probability"], body) if body else "")


def scatter(true: Tensor, predicted: Tensor) -> str:
    """Draw predicted numbers over the true ones."""
    points = list(zip(true.tolist(), predicted.tolist(), strict=True))
    low, high = min(map(min, points)), max(map(max, points))
    axes = charts.Axes([(low, low), (high, high), *points])
    axes.logarithmic, axes.y = False, axes.x  # the same scale both ways
    ends = [axes.place(value, value) for value in (low, high)]
    parts = [charts.text(axes.left, 18, "predicted", "start", "title"), *axes.drawn("true")]
    parts.append('<path class="line s1" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>'.format(*ends[0], *ends[1]))
    parts += [charts.marker(*axes.place(*point), 0) for point in points[:2000]]
    chart = charts.svg(480, axes.bottom + 48, f"Predicted over true numbers of {len(points)} rows", parts)
    return f"<figure>{chart}</figure><p>Right predictions lie on the line.</p>"


def residuals(true: Tensor, predicted: Tensor, lines: list[str]) -> str:
    """Show the spread of the errors, and the rows with the largest ones."""
    errors = predicted - true
    middle, (low, high) = errors.median().item(), np.quantile(errors.numpy(), (0.05, 0.95)).tolist()
    told = f"<p>Predicted less true: median {charts.number(middle)}; nine in ten of the errors lie between"
    body = [
        (lines[i], true[i].item(), predicted[i].item(), errors[i].item())
        for i in errors.abs().argsort(descending=True)[:LISTED].tolist()
    ]
    table = charts.table(["row", "true", "predicted", "error"], body, "numbers long")
    return f"{told} {charts.number(low)} and {charts.number(high)}.</p>{table}"


def importance(index: Tensor, model: TableModel, data: DataModule) -> str:
    """Show how much worse the test metric gets when a column is shuffled among the test rows (mean of 5 times)."""
    classes, columns = data.class_names is not None, data.splits["predict"][0].tensors[0][index[:2000]]
    predictor = copy.deepcopy(model.exported()).cpu().float().eval()
    true = data.splits["test"][0].tensors[2][index[:2000]]
    true, metric = (true, "accuracy") if classes else (true.double() * model.std + model.mean, "rmse")

    def score(of: Tensor) -> float:
        with torch.inference_mode():
            outputs = predictor(of)
        return measure(outputs.argmax(dim=1) if classes else outputs, true, classes)[f"test/{metric}"]

    whole, generator, found = score(columns), torch.Generator().manual_seed(0), []
    names = list(data.facts["columns"])
    for i, name in enumerate(names[: 10 * LISTED]):
        scores = []
        for _ in range(5):
            shuffled = columns.clone()
            shuffled[:, i] = columns[torch.randperm(len(columns), generator=generator), i]
            scores.append(score(shuffled))
        found.append((name, sum(scores) / 5 - whole))
    found.sort(key=lambda one: one[1] if classes else -one[1])
    left = f" Only the first {10 * LISTED} columns were tried." if len(names) > 10 * LISTED else ""
    told = f"<p>What the {metric} of {charts.number(whole)} changes by when a column is shuffled.{left}</p>"
    return told + charts.table(["column", f"change of {metric}"], found[:LISTED], "numbers")


def contents(data: DataModule) -> str:
    """Show what the table has: its rows and its columns."""
    counts = ", ".join(f"{len(data.splits[part][1])} {name}" for part, name in PARTS.items())
    body = []
    for name, known in list(data.facts["columns"].items())[: 4 * LISTED]:
        if "words" in known:
            words = ", ".join(charts.shortened(word or "(missing)", 20) for word in known["words"][:8])
            body.append((name, "words", f"{len(known['words'])}: {words}"))
        else:
            body.append((name, "numbers", f"mean {known['mean']:.4g}, standard deviation {known['std']:.4g}"))
    target = charts.escape(str(data.facts["target"]["name"]))
    told = f"<p>{charts.escape(data.source)}. To be learned: <b>{target}</b>. {counts}.</p>"
    told += "" if find_spec("sklearn") else f"<p>{charts.escape(SIMPLE)}</p>"
    return told + charts.table(["column", "holds", "of the training rows"], body, "facts long")


PARTS = {"train": "rows to train", "val": "to validate", "test": "to test"}
