"""How predictions are looked at: simple models, pictures, sections of the report, and the model that is exported."""

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
from .runtime import charts

if TYPE_CHECKING:
    from .data import DataModule
    from .module import TableModel

LISTED = 24  # classes and rows that a table of the report has
TRIED = 200  # columns that are shuffled, and listed


class Predictor(nn.Module):
    """Map columns as they are read, ``(B, C)`` float32, to probabilities ``(B, num_classes)`` or numbers ``(B,)``."""

    def __init__(self, model: TableModel) -> None:
        super().__init__()
        self.facts = model.facts  # plain values, which are written into the exported files
        self.standardize, self.network = Standardize(model.facts["columns"]), model.network
        self.mean, self.std, self.num_outputs = model.mean, model.std, model.num_outputs

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
    """Train simple models on the run's own training rows, those of scikit-learn if it is there, and test them."""
    data.setup("fit")
    (rows, train), (_, test), classes = data.splits["train"], data.splits["test"], data.class_names is not None
    numbers, words, targets = rows.tensors
    most = targets[train].bincount().argmax() if classes else targets[train].mean()
    found = {"most frequent class" if classes else "mean of the training rows": most.expand(len(test))}
    if find_spec("sklearn"):
        from sklearn import ensemble, linear_model  # here, for it takes a second

        linear: Any = linear_model.LogisticRegression(max_iter=1000) if classes else linear_model.Ridge()
        boosting: Any = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
        one_hot = [nn.functional.one_hot(words[:, i], size) for i, size in enumerate(data.vocabulary_sizes)]
        for name, model, features in (
            ("linear model", linear, torch.cat([numbers, *one_hot], dim=1).numpy()),
            ("gradient boosting", boosting(random_state=0), torch.cat([numbers, words], dim=1).numpy()),
        ):
            model.fit(features[train], targets[train].numpy())
            found[name] = torch.from_numpy(model.predict(features[test]))
    std = data.facts["target"].get("std", 1)  # the metrics are in the target's own unit
    return {name: measure(predicted * std, targets[test] * std, classes) for name, predicted in found.items()}


def draw(true: Tensor, predicted: Tensor, names: list[str] | None) -> Any:
    """Draw a table of how often each class, ``(N,)``, was taken for each, or numbers ``(N,)`` over the true ones."""
    from PIL import Image, ImageDraw  # here, for it need not be installed

    names = names and names[:LISTED]
    width, height = (110 + 70 * len(names), 30 + 22 * len(names)) if names else (360, 360)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((8, 8), "true \\ predicted" if names else "predicted over true", fill="black")
    for i, name in enumerate(names or ()):
        pen.text((8, 30 + 22 * i), name[:15], fill="black")
        pen.text((110 + 70 * i, 8), name[:10], fill="black")
        for j in range(len(names or ())):
            count = int(((true == i) & (predicted == j)).sum())
            pen.text((110 + 70 * j, 30 + 22 * i), str(count), fill="red" if i != j and count else "black")
    if not names:
        points = torch.stack([true, predicted], dim=1)
        places = 20 + 320 * (points - points.min()) / (points.max() - points.min()).clamp_min(1e-30)
        pen.line((20, 340, 340, 20), fill="gray")
        for x, y in places.tolist():
            pen.ellipse((x - 2, 358 - y, x + 2, 362 - y), fill="blue")
    return picture


def sections(
    predictions: dict[str, Tensor], model: TableModel, data: DataModule
) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone."""
    data.setup("test")
    index, names = predictions["index"], data.class_names
    lines, true = [data.row_names[i] for i in index.tolist()], data.splits["test"][0].tensors[2][index]
    if names is not None:
        sure, predicted = predictions["probabilities"].max(dim=1)
        shown = [
            ("Confusion matrix", partial(confusion_matrix, true, predicted, names)),
            ("Surest mistakes", partial(mistakes, true, predicted, sure, names, lines)),
        ]
    else:
        true, predicted = true.double() * model.std + model.mean, predictions["prediction"]
        shown = [
            ("Predicted and true", partial(scatter, true, predicted)),
            ("Largest errors", partial(residuals, true, predicted, lines)),
        ]
    important = partial(importance, index, true, model.exported(), data)
    return [*shown, ("Which columns matter", important), ("Data", partial(contents, data))]


def confusion_matrix(labels: Tensor, predicted: Tensor, names: list[str]) -> str:
    """Show how often each class was taken for each; of many classes, those that were confused most often."""
    size = len(names)
    counts = (labels * size + predicted).bincount(minlength=size**2).view(size, size)
    if size > LISTED:
        wrong = counts.clone().fill_diagonal_(0).flatten()
        most = [i for i in wrong.argsort(descending=True, stable=True)[:LISTED].tolist() if wrong[i]]
        body = [(names[i // size], names[i % size], int(wrong[i])) for i in most]
        return charts.table(["true", "predicted", "rows"], body, "numbers")
    found = counts.diagonal() / counts.sum(dim=1)
    body = [(name, *counts[i].tolist(), f"{found[i]:.1%}") for i, name in enumerate(names)]
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
    low, high = (float(bound) for bound in torch.stack([true, predicted]).aminmax())
    rows = charts.Line("a row", true.tolist(), predicted.tolist(), 0, joined=False)
    right = charts.Line("right", [low, high], [low, high], 1)
    return f"<figure>{charts.line_chart('predicted', [rows, right], 'true')}</figure>"


def residuals(true: Tensor, predicted: Tensor, lines: list[str]) -> str:
    """Show the spread of the errors, and the rows with the largest ones."""
    errors = predicted - true
    low, middle, high = (charts.number(value) for value in np.quantile(errors.numpy(), (0.05, 0.5, 0.95)))
    first = errors.abs().argsort(descending=True, stable=True)[:LISTED].tolist()
    body = [(lines[i], true[i].item(), predicted[i].item(), errors[i].item()) for i in first]
    told = f"<p>Predicted less true: median {middle}, and nine in ten lie between {low} and {high}.</p>"
    return told + charts.table(["row", "true", "predicted", "error"], body, "numbers long")


def importance(index: Tensor, true: Tensor, exported: nn.Module, data: DataModule) -> str:
    """Show how much worse the test metric gets when a column is shuffled among the test rows, five times each."""
    classes, columns = data.class_names is not None, data.splits["predict"][0].tensors[0][index]
    predictor, generator = copy.deepcopy(exported).cpu().float().eval(), torch.Generator().manual_seed(0)
    metric = "accuracy" if classes else "rmse"

    @torch.inference_mode()
    def score(of: Tensor) -> float:
        outputs = predictor(of)
        return measure(outputs.argmax(dim=1) if classes else outputs, true, classes)[f"test/{metric}"]

    whole, found = score(columns), []
    for i, name in enumerate([*data.facts["columns"]][:TRIED]):
        scores = []
        for _ in range(5):
            shuffled = columns.clone()
            shuffled[:, i] = columns[torch.randperm(len(columns), generator=generator), i]
            scores.append(score(shuffled))
        found.append((name, sum(scores) / 5 - whole))
    found.sort(key=lambda one: one[1] if classes else -one[1])
    which = f"one of the first {TRIED} columns" if len(data.facts["columns"]) > TRIED else "a column"
    told = f"<p>How the {metric} of {charts.number(whole)} changes when {which} is shuffled.</p>"
    return told + charts.table(["column", f"change of {metric}"], found, "numbers long")


def contents(data: DataModule) -> str:
    """Show what the table has: its rows and its columns."""
    train, val, test = (len(data.splits[part][1]) for part in ("train", "val", "test"))
    body = []
    for name, known in [*data.facts["columns"].items()][:TRIED]:
        if "words" in known:
            body.append((name, "words", ", ".join(word or "(missing)" for word in known["words"][:LISTED])))
        else:
            body.append((name, "numbers", f"mean {known['mean']:.4g}, standard deviation {known['std']:.4g}"))
    told = f"{data.source}. To be learned: {data.facts['target']['name']}."
    told += f" {train} rows to train, {val} to validate, {test} to test."
    if not find_spec("sklearn"):
        told += (
            " For a linear model and gradient boosting on these rows: pip install -e '.[baselines]', then fit again."
        )
    return f"<p>{charts.escape(told)}</p>{charts.table(['column', 'holds', 'of the training rows'], body, 'long')}"
