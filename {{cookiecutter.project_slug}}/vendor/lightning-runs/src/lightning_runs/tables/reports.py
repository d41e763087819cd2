"""A LightningModule that learns a column of a table: its predictions, pictures, report and export."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..reports import charts
from ..reports.classification import ClassificationReport, Section
from ..reports.tables import table
from .datamodule import table_metrics

LISTED = 24  # errors, classes and words in a table of the report
TRIED = 200  # columns that are shuffled, and listed
REPEATS = 5  # times that a column is shuffled


class ExportedTableModel(nn.Module):
    """Map columns as they are read, ``(B, C)`` float32, to probabilities ``(B, num_classes)`` or numbers ``(B,)``.

    Args:
        standardize: Maps columns to the inputs of the network.
        network: Maps these to logits, or to one standardised number.
        facts: What is known of the table, as plain values, which are written into the exported files.
    """

    def __init__(self, standardize: nn.Module, network: nn.Module, facts: dict[str, Any]) -> None:
        super().__init__()
        self.standardize = standardize
        self.network = network
        self.facts = {"kind": "rows", **facts}

    def forward(self, columns: Tensor) -> Tensor:
        """Predict rows."""
        outputs = self.network(*self.standardize(columns)).float()
        if self.facts["class_names"]:
            return outputs.softmax(dim=1)
        return outputs[:, 0] * self.facts["std"] + self.facts["mean"]


class TableReports:
    """Mixin of a LightningModule with ``facts``, which learns a class or a number.

    Its ``predict_step`` returns ``index``, the number of each row, ``(B,)``, and ``probabilities`` of all classes,
    ``(B, num_classes)``, or ``prediction``, ``(B,)``. Its ``validation_step`` and ``test_step`` return logits, or
    standardised numbers. Its ``exported`` returns an `ExportedTableModel`.
    """

    facts: dict[str, Any]
    exported: Callable[[], nn.Module]

    def rows(self, predictions: dict[str, Tensor], data: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        columns = {name: column.tolist() for name, column in predictions.items() if name != "index"}
        names = [data.row_names[i] for i in predictions["index"].tolist()]
        return table({"file": names, **columns}, data.class_names)

    def sections(self, predictions: dict[str, Tensor], data: Any) -> list[Section]:
        """Return the sections of the report."""
        data.setup("test")
        index = predictions["index"]
        true = data.splits["test"][0].labels[index]
        names = [data.row_names[i] for i in index.tolist()]
        if data.class_names:
            probabilities = predictions["probabilities"]
            report = ClassificationReport(true, probabilities, data.class_names, "rows", names.__getitem__)
            sections = report.sections("Confusion matrix", "Surest mistakes")
        else:
            true = true.double() * self.facts["std"] + self.facts["mean"]
            predicted = predictions["prediction"]
            sections = [
                ("Predicted and true", partial(scatter, true, predicted)),
                ("Largest errors", partial(largest_errors, true, predicted, names)),
            ]
        columns = data.splits["predict"][0].tensors[0][index]
        return [
            *sections,
            ("Which columns matter", partial(importance, columns, true, self.exported())),
            ("Data", partial(data_section, data, self.facts)),
        ]


def scatter(true: Tensor, predicted: Tensor) -> str:
    """Draw predicted numbers over the true ones."""
    bounds = [float(bound) for bound in torch.stack([true, predicted]).aminmax()]
    rows = charts.Line("a row", true.tolist(), predicted.tolist(), 0, joined=False)
    right = charts.Line("right", bounds, bounds, 1)
    return f"<figure>{charts.line_chart('predicted', [rows, right], 'true')}</figure>"


def largest_errors(true: Tensor, predicted: Tensor, names: list[str]) -> str:
    """Show the spread of the errors, and the rows with the largest ones."""
    errors = predicted - true
    low, middle, high = (charts.number(value) for value in np.quantile(errors.numpy(), (0.05, 0.5, 0.95)))
    order = errors.abs().argsort(descending=True, stable=True)[:LISTED].tolist()
    body = [(names[i], true[i].item(), predicted[i].item(), errors[i].item()) for i in order]
    spread = f"<p>Predicted less true: median {middle}, and nine in ten lie between {low} and {high}.</p>"
    return spread + charts.table(["row", "true", "predicted", "error"], body, "numbers long")


@torch.inference_mode()
def importance(columns: Tensor, true: Tensor, exported: nn.Module) -> str:
    """Show how much worse the test metric gets when a column is shuffled among the rows.

    ``columns`` are the rows as they are read, ``(N, C)`` float32, and ``true`` are their targets, ``(N,)``.
    """
    facts: Any = exported.facts
    num_classes = len(facts["class_names"])
    metric = "accuracy" if num_classes else "rmse"
    predictor = copy.deepcopy(exported).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    shuffled = columns.repeat(REPEATS, 1)
    true = true.repeat(REPEATS)

    def score() -> float:
        outputs = predictor(shuffled)
        return table_metrics(outputs.argmax(dim=1) if num_classes else outputs, true, num_classes)[metric]

    score_of_all = score()
    changes = []
    for i, name in enumerate([*facts["columns"]][:TRIED]):
        column = shuffled[:, i].clone()
        orders = [torch.randperm(len(columns), generator=generator) for _ in range(REPEATS)]
        shuffled[:, i] = column[torch.cat(orders)]
        changes.append((name, score() - score_of_all))
        shuffled[:, i] = column
    changes.sort(key=lambda change: change[1], reverse=not num_classes)
    which = f"one of the first {TRIED} columns" if columns.shape[1] > TRIED else "a column"
    text = f"<p>How the {metric} of {charts.number(score_of_all)} changes when {which} is shuffled.</p>"
    return text + charts.table(["column", f"change of {metric}"], changes, "numbers long")


def data_section(data: Any, facts: Mapping[str, Any]) -> str:
    """Show the number of rows of each part, and the columns."""
    counts = [len(data.splits[part][1]) for part in ("train", "val", "test")]
    text = f"{data.source}. To be learned: {facts['target']}."
    text += " {} rows to train, {} to validate, {} to test.".format(*counts)
    body = []
    for name, known in [*facts["columns"].items()][:TRIED]:
        if "words" in known:
            body.append((name, "words", ", ".join(word or "(missing)" for word in known["words"][:LISTED])))
        else:
            body.append((name, "numbers", f"mean {known['mean']:.4g}, standard deviation {known['std']:.4g}"))
    return f"<p>{charts.escape(text)}</p>{charts.table(['column', 'holds', 'of the training rows'], body, 'long')}"
