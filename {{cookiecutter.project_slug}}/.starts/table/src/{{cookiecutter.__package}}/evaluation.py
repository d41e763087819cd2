"""How predictions are looked at: simple models, pictures, sections of the report, and the model that is exported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_runs.reports import charts
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_f1_score

from .network import Standardize

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


def measure(predicted: Tensor, true: Tensor, num_classes: int) -> dict[str, float]:
    """Return the test metrics of predicted classes, or of numbers, ``(N,)``, where there are 0 classes."""
    if num_classes:
        f1 = multiclass_f1_score(predicted, true, num_classes).item()
        return {"test/accuracy": (predicted == true).double().mean().item(), "test/f1": f1}
    error = (predicted.double() - true.double()).square().mean()
    return {"test/rmse": error.sqrt().item(), "test/r2": (1 - error / true.double().var(correction=0)).item()}


def baseline(data: DataModule) -> dict[str, dict[str, float]]:
    """Train simple models on the run's own training rows, those of scikit-learn if it is there, and test them."""
    data.setup("fit")
    (rows, train), (_, test), classes = data.splits["train"], data.splits["test"], len(data.class_names or [])
    numbers, words, targets = rows.tensors
    most = targets[train].bincount().argmax() if classes else targets[train].mean()
    found = {"most frequent class" if classes else "mean of the training rows": most.expand(len(test))}
    if find_spec("sklearn"):
        from sklearn import ensemble, linear_model  # here, for it takes a second

        linear: Any = linear_model.LogisticRegression(max_iter=1000) if classes else linear_model.Ridge()
        boosting: Any = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
        sizes = Standardize(data.facts["columns"]).vocabulary_sizes
        one_hot = [nn.functional.one_hot(words[:, i], size) for i, size in enumerate(sizes)]
        for name, model, features in (
            ("linear model", linear, [numbers, *one_hot]),
            ("gradient boosting", boosting(random_state=0), [numbers, words]),
        ):
            inputs = torch.cat(features, dim=1).numpy()
            model.fit(inputs[train], targets[train].numpy())
            found[name] = torch.from_numpy(model.predict(inputs[test]))
    std = data.facts["target"].get("std", 1)  # the metrics are in the target's own unit
    return {name: measure(predicted * std, targets[test] * std, classes) for name, predicted in found.items()}


def show(model: TableModel, outputs: list[Tensor], batch: tuple[Tensor, ...], data: DataModule) -> dict[str, Any]:
    """Return a picture of the first batch if Pillow is installed: a table of classes, or numbers over the true ones."""
    if find_spec("PIL") is None:
        return {}
    from PIL import Image, ImageDraw  # here, for it need not be installed

    true, predicted, names = batch[2].cpu(), outputs[0].cpu(), (data.class_names or [])[:LISTED]
    width, height = (120 + 100 * len(names), 40 + 24 * len(names)) if names else (360, 360)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    if names:
        counts = [predicted.argmax(dim=1)[true == i].bincount(minlength=len(names)).tolist() for i in range(len(names))]
        rows = [["true, predicted", *names], *([name, *of] for name, of in zip(names, counts, strict=True))]
        for i, column in enumerate(zip(*rows)):  # noqa: B905 a row may have more classes than are listed
            pen.multiline_text((8 + 100 * i, 8), "\n".join(str(cell)[:14] for cell in column), "black", spacing=12)
        return {"confusion": picture}
    points = torch.stack([true.float(), predicted], dim=1)
    places = 20 + 320 * (points - points.min()) / (points.max() - points.min()).clamp_min(1e-30)
    pen.line((20, 340, 340, 20), fill="gray")
    for x, y in places.tolist():
        pen.ellipse((x - 2, 358 - y, x + 2, 362 - y), fill="blue")
    return {"predicted_and_true": picture}


def sections(
    model: TableModel, predictions: dict[str, Tensor], data: DataModule
) -> list[tuple[str, Callable[[], str]]]:
    """Return sections of the report: titles, with functions that write the HTML, so that one may fail alone."""
    data.setup("test")
    index, names = predictions["index"], data.class_names
    lines, true = [data.row_names[i] for i in index.tolist()], data.splits["test"][0].tensors[2][index]
    if names is not None:
        sure, predicted = predictions["probabilities"].max(dim=1)
        shown = [
            ("Confusion matrix", partial(charts.confusion_matrix, true, predicted, names)),
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


def mistakes(labels: Tensor, predicted: Tensor, sure: Tensor, names: list[str], lines: list[str]) -> str:
    """Show the test rows that the model was surest of among those that it got wrong."""
    wrong = (predicted != labels).nonzero().flatten()
    first = wrong[sure[wrong].argsort(descending=True, stable=True)][:LISTED].tolist()
    body = [(lines[i], names[labels[i]], names[predicted[i]], f"{sure[i]:.1%}") for i in first]
    table = charts.table(["row", "true", "predicted", "probability"], body) if body else ""
    return f"<p>{len(wrong)} of {len(labels)} rows are wrong.</p>{table}"


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
    spread = f"<p>Predicted less true: median {middle}, and nine in ten lie between {low} and {high}.</p>"
    return spread + charts.table(["row", "true", "predicted", "error"], body, "numbers long")


@torch.inference_mode()
def importance(index: Tensor, true: Tensor, exported: nn.Module, data: DataModule) -> str:
    """Show how much worse the test metric gets when a column is shuffled among the test rows, five times each."""
    classes, names = len(data.class_names or []), [*data.facts["columns"]]
    metric, true = "accuracy" if classes else "rmse", true.repeat(5)
    columns = data.splits["predict"][0].tensors[0][index].repeat(5, 1)
    predictor, generator = copy.deepcopy(exported).cpu().float().eval(), torch.Generator().manual_seed(0)

    def score() -> float:
        outputs = predictor(columns)
        return measure(outputs.argmax(dim=1) if classes else outputs, true, classes)[f"test/{metric}"]

    whole, changes = score(), []
    for i, name in enumerate(names[:TRIED]):
        kept = columns[:, i].clone()
        columns[:, i] = kept[torch.cat([torch.randperm(len(index), generator=generator) for _ in range(5)])]
        changes.append((name, score() - whole))
        columns[:, i] = kept
    changes.sort(key=lambda change: change[1], reverse=not classes)
    which = f"one of the first {TRIED} columns" if len(names) > TRIED else "a column"
    head = f"<p>How the {metric} of {charts.number(whole)} changes when {which} is shuffled.</p>"
    return head + charts.table(["column", f"change of {metric}"], changes, "numbers long")


def contents(data: DataModule) -> str:
    """Show what the table has: its rows and its columns."""
    train, val, test = (len(data.splits[part][1]) for part in ("train", "val", "test"))
    body = []
    for name, known in [*data.facts["columns"].items()][:TRIED]:
        if "words" in known:
            body.append((name, "words", ", ".join(word or "(missing)" for word in known["words"][:LISTED])))
        else:
            body.append((name, "numbers", f"mean {known['mean']:.4g}, standard deviation {known['std']:.4g}"))
    text = f"{data.source}. To be learned: {data.facts['target']['name']}."
    text += f" {train} rows to train, {val} to validate, {test} to test."
    if not find_spec("sklearn"):
        text += (
            " For a linear model and gradient boosting on these rows: pip install -e '.[baselines]', then fit again."
        )
    return f"<p>{charts.escape(text)}</p>{charts.table(['column', 'holds', 'of the training rows'], body, 'long')}"
