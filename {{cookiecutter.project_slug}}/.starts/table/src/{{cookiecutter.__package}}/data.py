"""The data: tables behind one LightningDataModule."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_runs.data.batches import gathered
from lightning_runs.data.datamodule import SplitDataModule
from lightning_runs.data.folders import find
from lightning_runs.data.splits import class_weights, split
from lightning_runs.errors import UserError
from lightning_runs.tables.reading import SUFFIXES, Table, encode, listed, numbers, read_table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import evaluation
from .datasets import SOURCES, DatasetName, check_name, describe, is_class
from .network import Standardize


class Rows(Dataset):
    """Tensors in memory with an entry for each row; a batch is gathered in one operation of each."""

    draws_nothing = True  # no random numbers, so batches need no seed

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.index_select(0, indices) for tensor in self.tensors)


class DataModule(SplitDataModule):
    """Read a table, split it and batch it.

    Batches are numbers ``(B, num_numbers)``, float, standardised, words ``(B, W)``, int64, and targets ``(B,)``:
    classes, int64, or standardised numbers, float. Those for ``predict`` are the columns as they were read,
    ``(B, C)`` float32 (`inputs.encode`), the rows' index ``(B,)``, numbers and words.

    Args:
        dataset: Which table. penguins and penguin_mass are part of this package: their species, or body mass in grams,
            is to be learned; csv_file is a table of your own.
        root: The CSV file of csv_file.
        target: The column to learn; csv_file needs it.
        kind: Whether the target is a class or a number; null takes words, and two different values, for classes.
        ignore: Columns to leave out.
        group: A column whose rows of the same value stay in the same part, such as a patient or a day.
        balance: Let all classes count the same in training, however many rows each has. weights multiplies the loss of
            each row by the weight of its class; sampling draws the rows of an epoch so that each class is there as
            often, with some rows more than once.
        batch_size: Rows per step per device.
        val_fraction: Fraction of the training rows used for validation, between 0 and 1.
        test_fraction: Fraction of all rows that are tested, between 0 and 1.
        split_seed: Which rows those are; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the rows that are not tested is for validation, from 0, and is predicted;
            null trains on all of them.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        seed: Seed of the order; follows ``seed_everything``.
        predict_paths: CSV files, and folders of them, that ``predict`` takes in the place of the test rows.

    Raises:
        UserError: A value is out of its bounds, or the table can't be learned from.
    """

    def __init__(
        self,
        dataset: DatasetName = "penguins",
        root: str = "data/table.csv",
        target: str | None = None,
        kind: Literal["class", "number"] | None = None,
        ignore: list[str] | None = None,
        group: str | None = None,
        balance: Literal["none", "weights", "sampling"] = "none",
        batch_size: int = 16,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
        super().__init__({"batch_size": (batch_size, 1)}, fold, num_folds, **fractions)
        file, known_target, text = SOURCES[dataset]
        self.file = Path(__file__).with_name(file) if file else Path(root)
        self.source, self.target = f"{dataset}: {text}", target or known_target
        self.kind, self.ignore, self.group, self.balance = kind, ignore or [], group, balance
        self.batch_size, self.seed, self.predict_paths = batch_size, seed, predict_paths
        self.shares = (test_fraction, val_fraction, split_seed)
        self.row_names: list[str] = []

    @property
    def facts(self) -> dict[str, Any]:
        """What a model has to know of target and columns, in plain values."""
        if not self.known:
            self.setup("fit")
        return {"dataset": self.source, **self.known}

    @property
    def class_names(self) -> list[str] | None:
        """The name of each class, in the order of the labels; None for a number."""
        return self.facts["target"].get("class_names")

    @property
    def loss_weights(self) -> Tensor | None:
        """The weight of each class in the loss of training, ``(C,)``; None counts every row the same."""
        rows, indices = self.splits["train"]
        return class_weights(rows.tensors[-1][indices]) if self.balance == "weights" else None

    def setup(self, stage: str) -> None:
        """Read the table and split it; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            if not self.known:
                raise UserError("new rows are predicted by a run: predict PATH --run NAME.")
            rows = self._encoded([read_table(file) for file in find(self.predict_paths, SUFFIXES)], tell=True)
            self.predict_paths, self.splits = self.row_names, {"predict": (rows, torch.arange(len(rows)))}
            return
        table = self._table()
        as_class = "class_names" in self.known["target"] if self.known else is_class(table, self.target, self.kind)
        if self.balance != "none" and not as_class:
            raise UserError(f"data.balance is {self.balance}, but {self.target} is a number. It is for classes.")
        labels = table.columns[self.target].astype(str) if as_class else None
        groups = table.columns[self.group].astype(str) if self.group else None
        parts = split(len(table.rows), labels, groups, *self.shares, self.fold, self.num_folds)
        for part, rows in parts.items():
            if len(rows) < 2 and not (part == "val" and self.fold is None):
                few = f"{len(rows)} of {len(table.rows)} rows of {table.file}"
                raise UserError(f"the part {part} has {few}; it needs two.")
        if not self.known:
            self._learn(table, labels, parts)
        encoded = self._encoded([table])
        folder = len(str(self.file)) - len(self.file.name)  # characters of a row's name
        self.row_names = [name[folder:] for name in self.row_names]
        rows = Rows(*encoded.tensors[2:], self._targets(table))
        self.splits = {part: (rows, indices) for part, indices in parts.items()}
        self.splits["predict"] = (encoded, parts[self.predicted])

    def _table(self) -> Table:
        """Read the table without the rows that have no target."""
        table = read_table(self.file)
        check_name(table, "target", self.target)
        for option, names in (("group", [self.group] if self.group else []), ("ignore", self.ignore)):
            for name in names:
                check_name(table, option, name)
        known = table.columns[self.target] != ""
        if not self.known and not known.all():
            self.tell(f"{table.file.name}: {(~known).sum()} rows without a value of {self.target} are left out.")
        columns = {name: texts[known] for name, texts in table.columns.items()}
        return Table(table.file, columns, table.rows[known])

    def _learn(self, table: Table, labels: np.ndarray | None, parts: dict[str, Tensor]) -> None:
        """Note what is known of columns and target from the training rows."""
        train, test = parts["train"].numpy(), parts["test"].numpy()
        names = [name for name in table.columns if name not in (self.target, self.group, *self.ignore)]
        columns, left_out, mixed = describe(table, names, train)
        if left_out:
            reasons = listed([f"{name} ({why})" for name, why in left_out.items()])
            self.tell(f"{table.file.name}: columns that tell nothing are left out: {reasons}.")
        if mixed:
            few = f"columns of numbers with few words are read as words: {listed(mixed)}"
            self.tell(f"{table.file.name}: {few}. Leave such cells empty to read numbers.")
        target: dict[str, Any] = {"name": self.target}
        if labels is None:
            values = numbers(table.columns[self.target])[train]
            target |= {"mean": float(values.mean()), "std": float(values.std()) or 1.0}
        else:
            target["class_names"] = sorted(set(labels[train].tolist()))
            if untested := sorted(set(labels.tolist()) - set(labels[test].tolist())):
                self.tell(f"{table.file.name}: too few rows to be tested: {listed(untested)}.")
        self.known = {"columns": columns, "target": target}

    def _targets(self, table: Table) -> Tensor:
        """Return classes, ``(N,)`` int64, or standardised numbers, ``(N,)`` float32."""
        target, texts = self.known["target"], table.columns[self.target]
        if "class_names" not in target:
            return torch.from_numpy((numbers(texts) - target["mean"]) / target["std"]).float()
        places = {name: i for i, name in enumerate(target["class_names"])}
        if new := sorted(set(texts) - set(places)):
            raise UserError(f"{table.file} has the {self.target} {new[0]}, which the model was not trained with.")
        return torch.tensor([places[text] for text in texts])

    def _encoded(self, tables: list[Table], tell: bool = False) -> Rows:
        """Turn tables into what is predicted: columns as they were read, index, and standardised numbers and words."""
        self.row_names = [name for table in tables for name in table.rows]
        columns = torch.from_numpy(np.concatenate([encode(table, self.known["columns"], tell) for table in tables]))
        return Rows(columns, torch.arange(len(columns)), *Standardize(self.known["columns"])(columns))

    def loader(self, part: str) -> DataLoader:
        (rows, indices), train = self.splits[part], part == "train"
        classes = rows.tensors[-1][indices] if train and self.balance == "sampling" else None
        options = {"train": train, "seed": self.seed, "trainer": self.trainer, "classes": classes}
        return gathered(rows, indices, self.batch_size, **options)  # rows[indices] is a whole batch

    def fingerprint(self) -> str:
        """Return a text that changes when the table changes."""
        return hashlib.blake2b(self.file.read_bytes(), digest_size=16).hexdigest()

    baseline = evaluation.baseline
