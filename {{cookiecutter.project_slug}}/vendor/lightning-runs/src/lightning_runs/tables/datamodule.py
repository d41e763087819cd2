"""The base of data modules of tables: rows, targets, facts of the training rows, simple models."""

import hashlib
import os
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.classes import class_metrics, labels_from_names, note_similar_names
from ..data.datamodule import SplitDataModule
from ..data.folders import find_files, print_note
from ..errors import UserError
from .columns import check_column, class_texts, describe_columns, is_class
from .reading import SUFFIXES, Table, column_numbers, describe_first_word, encode_table, first_names, read_table


class TableDataModule(SplitDataModule):
    """Describe and encode the rows of a table. A subclass sets the attributes below, and has `setup` and `loader`.

    The items of the part ``predict`` begin with the columns as they were read, ``(N, C)`` float32.
    """

    file: Path
    source: str  # which table it is, and who made it
    target: str  # the column to learn; "" if it was not given
    kind: str | None  # class, number, or None
    ignore: list[str]  # columns to leave out
    group: str | None  # the column whose rows of the same value stay in the same part
    row_names: list[str]  # such as table.csv:2; `read_rows` fills it

    @property
    def facts(self) -> dict[str, Any]:
        """What a model has to know of the table, as plain values: columns, target, classes, mean and std."""
        if not self.known:
            self.setup("fit")
        return {"dataset": self.source, **self.known}

    def read_rows(self) -> Table:
        """Read the table, without the rows that have no target.

        Raises:
            UserError: The file is not a table, or lacks a column that an option names.
        """
        table = read_table(self.file, self.known.get("decimal", ""))
        if not self.known:
            print_note(f"{table.file.name}: {len(table.row_names)} rows and {len(table.columns)} columns are read.")
        check_column(table, "data.target", self.target)
        for name in self.ignore:
            check_column(table, "data.ignore", name)
        if self.group:
            check_column(table, "data.group", self.group)
        has_target = table.columns[self.target] != ""
        if not self.known and not has_target.all():
            print_note(f"{table.file.name}: {(~has_target).sum()} rows without a value of {self.target} are left out.")
        self.row_names = [os.path.basename(name) for name in table.row_names[has_target]]
        columns = {name: cells[has_target] for name, cells in table.columns.items()}
        return Table(table.file, columns, table.row_names[has_target], table.notations, table.decimal)

    def class_of_each_row(self, table: Table) -> np.ndarray | None:
        """Return the class of each row, ``(N,)`` str, or None where the target is a number.

        Raises:
            UserError: The target can't be learned, or a number is to be balanced.
        """
        classes = bool(self.class_names) if self.known else is_class(table, self.target, self.kind)
        if classes:
            return class_texts(table, self.target)
        if self.balance != "none":
            raise UserError(f"data.balance is {self.balance}, but {self.target} is a number; it must be none.")
        return None

    def describe_rows(self, table: Table, labels: np.ndarray | None, parts: dict[str, Tensor]) -> None:
        """Fill `known` from the training rows; ``labels`` are their classes, or None."""
        train = parts["train"].numpy()
        names = [name for name in table.columns if name not in (self.target, self.group, *self.ignore)]
        columns = describe_columns(table, names, train, labels)
        self.known = {"columns": columns, "target": self.target, "class_names": [], "mean": 0.0, "std": 1.0}
        self.known["decimal"] = table.decimal
        if labels is None:
            values = self._target_numbers(table)[train]
            self.known["mean"] = float(values.mean())
            self.known["std"] = float(values.std()) or 1.0
        else:
            self.known["class_names"] = sorted(set(labels[train].tolist()))
            untested = sorted(set(labels.tolist()) - set(labels[parts["test"].numpy()].tolist()))
            if untested:
                print_note(f"{table.file.name}: classes with too few rows for the test: {first_names(untested)}.")
            note_similar_names(labels, table.file.name)

    def encode_targets(self, table: Table) -> Tensor:
        """Return classes, ``(N,)`` int64, or standardised numbers, ``(N,)`` float32."""
        if self.class_names:
            names = class_texts(table, self.target).tolist()
            return labels_from_names(names, self.class_names, table.file)
        return torch.from_numpy((self._target_numbers(table) - self.known["mean"]) / self.known["std"]).float()

    def _target_numbers(self, table: Table) -> np.ndarray:
        numbers = column_numbers(table, self.target)
        if numbers is None:
            raise UserError(f"{self.target} must have numbers. {describe_first_word(table, self.target)}")
        return numbers

    def read_new_rows(self) -> np.ndarray:
        """Return the rows of the files in ``predict_paths``, ``(N, C)`` float32; it has the rows' names from now on."""
        self.check_known()
        decimal = self.known.get("decimal", "")
        files = chain(*find_files(self.predict_paths or [], SUFFIXES).values())
        tables = [read_table(file, decimal) for file in files]
        self.row_names = [name for table in tables for name in table.row_names]
        self.predict_paths = self.row_names
        return np.concatenate([encode_table(table, self.known["columns"], print_unknown=True) for table in tables])

    def fingerprint(self) -> str:
        """Return a text that changes when the table changes."""
        return hashlib.blake2b(self.file.read_bytes(), digest_size=16).hexdigest()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Train simple models on the training rows, those of scikit-learn if it is installed; return test metrics."""
        self.setup("fit")
        numbers, words, targets = self.splits["train"][0].tensors
        train = self.splits["train"][1]
        test = self.splits["test"][1]
        num_classes = self.num_classes
        constant = targets[train].bincount().argmax() if num_classes else targets[train].mean()
        name = "most frequent class" if num_classes else "mean of the training rows"
        predictions = {name: constant.expand(len(test))}
        if find_spec("sklearn"):
            from sklearn import ensemble, linear_model  # here, because it takes a second

            linear: Any = linear_model.LogisticRegression(max_iter=1000) if num_classes else linear_model.Ridge()
            kind = "Classifier" if num_classes else "Regressor"
            boosting: Any = getattr(ensemble, f"HistGradientBoosting{kind}")
            sizes = [len(column["words"]) + 1 for column in self.known["columns"].values() if "words" in column]
            one_hot = [F.one_hot(words[:, i], size) for i, size in enumerate(sizes)]
            for name, model, features in (
                ("linear model", linear, [numbers, *one_hot]),
                ("gradient boosting", boosting(random_state=0), [numbers, words]),
            ):
                inputs = torch.cat(features, dim=1).numpy()
                model.fit(inputs[train], targets[train].numpy())
                predictions[name] = torch.from_numpy(model.predict(inputs[test]))
        scale = 1 if num_classes else self.known["std"]  # numbers are measured in the target's own unit
        metrics = {}
        for name, predicted in predictions.items():
            found = table_metrics(predicted * scale, targets[test] * scale, num_classes)
            metrics[name] = {f"test/{metric}": value for metric, value in found.items()}
        return metrics


def table_metrics(predicted: Tensor, true: Tensor, num_classes: int) -> dict[str, float]:
    """Return ``accuracy`` and ``f1`` of classes, ``(N,)`` int64, or without classes ``rmse`` and ``r2`` of numbers."""
    if num_classes:
        return class_metrics(predicted, true, num_classes)
    error = (predicted.double() - true.double()).square().mean()
    return {"rmse": error.sqrt().item(), "r2": (1 - error / true.double().var(correction=0)).item()}
