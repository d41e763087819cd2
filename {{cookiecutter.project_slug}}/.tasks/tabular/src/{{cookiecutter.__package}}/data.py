"""The data: tables behind one LightningDataModule."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from . import evaluation
from .datasets import SOURCES, DatasetName, check_name, describe, split, target_kind
from .inputs import SUFFIXES, Table, encode, read_table
from .network import Standardize
from .runtime.data import gathered
from .runtime.errors import UserError
from .runtime.folders import find


class Rows(Dataset):
    """Tensors in memory with an entry for each row; a batch is gathered in one operation of each."""

    draws_nothing = True  # no random numbers, so batches need no seed

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.index_select(0, indices) for tensor in self.tensors)


class DataModule(pl.LightningDataModule):
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
        batch_size: int = 16,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}; it must be at least 1 row per step.")
        for name, fraction in (("val", val_fraction), ("test", test_fraction)):
            if not 0 < fraction < 1:
                raise UserError(f"data.{name}_fraction is {fraction}; it must lie between 0 and 1, such as 0.2.")
        if num_folds is not None and not (num_folds > 1 and 0 <= (fold or 0) < num_folds):
            raise UserError(f"data.fold is {fold} of data.num_folds {num_folds}; of at least 2 folds, the first is 0.")
        file, known_target, text = SOURCES[dataset]
        self.file = Path(__file__).with_name(file) if file else Path(root)
        self.source, self.target = f"{dataset}: {text}", target or known_target
        self.kind, self.ignore, self.group = kind, ignore or [], group
        self.batch_size, self.fractions, self.split_seed = batch_size, (test_fraction, val_fraction), split_seed
        self.fold, self.num_folds = fold, num_folds
        self.seed, self.predict_paths = seed, predict_paths
        self.known: dict[str, Any] = {}  # of columns and target, from the training rows alone
        self.row_names: list[str] = []
        self.splits: dict[str, tuple[Rows, Tensor]] = {}  # the rows, and which of them belong to the split

    def state_dict(self) -> dict[str, Any]:
        """What was learned of the training rows: with it, a new table is read as they were."""
        return self.known

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.known = state_dict

    @property
    def facts(self) -> dict[str, Any]:
        """What a model has to know of target and columns, in plain values."""
        if not self.known:
            self.setup("fit")
        return {"dataset": self.source, "target": self.known["target"], "columns": self.known["columns"]}

    @property
    def class_names(self) -> list[str] | None:
        """The name of each class, in the order of the labels; None for a number."""
        return self.known["class_names"] if self.facts else None

    @property
    def num_numbers(self) -> int:
        """Numbers of a row, with those that tell where one is missing."""
        return sum(1 + column["missing"] for column in self.facts["columns"].values() if "words" not in column)

    @property
    def vocabulary_sizes(self) -> list[int]:
        """Number of words of each column of words, the unknown word among them."""
        return [len(column["words"]) + 1 for column in self.facts["columns"].values() if "words" in column]

    @property
    def num_outputs(self) -> int:
        """Number of classes, or 1 for a number."""
        return len(self.class_names or [""])

    def setup(self, stage: str) -> None:
        """Read the table and split it; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            if not self.known:
                raise UserError("new rows are predicted by a run: predict PATH --run NAME.")
            tables = [read_table(file) for file in find(self.predict_paths, SUFFIXES)]
            self.predict_paths = self.row_names = [name for table in tables for name in table.names]
            columns = torch.from_numpy(np.concatenate([encode(t, self.known["columns"], tell=True) for t in tables]))
            index = torch.arange(len(columns))
            self.splits = {"predict": (Rows(columns, index, *Standardize(self.known["columns"])(columns)), index)}
            return
        table = self._table()
        kind = self.known["target"]["kind"] if self.known else target_kind(table, self.target, self.kind)
        labels = table.columns[self.target] if kind == "class" else None
        groups = table.columns[self.group] if self.group else None
        parts = split(len(table.lines), labels, groups, self.fractions, self.split_seed, self.fold, self.num_folds)
        for part, of in parts.items():
            if len(of) < 2 and not (part == "val" and self.fold is None):
                raise UserError(
                    f"the part {part} has {len(of)} of {len(table.lines)} rows of {table.file}; it needs two."
                )
        if not self.known:
            self._learn(table, labels, parts)
        columns = torch.from_numpy(encode(table, self.known["columns"]))
        standardized, index = Standardize(self.known["columns"])(columns), torch.arange(len(columns))
        rows = Rows(*standardized, self._targets(table))
        self.splits = {part: (rows, torch.from_numpy(of)) for part, of in parts.items()}
        predicted = "val" if self.num_folds and self.fold is not None else "test"
        self.splits["predict"] = (Rows(columns, index, *standardized), self.splits[predicted][1])
        self.row_names = [f"{table.file.name}:{line}" for line in table.lines]

    def _table(self) -> Table:
        """Read the table without the rows that have no target."""
        table = read_table(self.file)
        given = [("target", self.target), *(("group", name) for name in (self.group,) if name)]
        for option, name in (*given, *(("ignore", name) for name in self.ignore)):
            check_name(table, option, name)
        kept = [i for i, text in enumerate(table.columns[self.target]) if text]
        if len(kept) < len(table.lines) and not self.known:
            self._tell(f"{len(table.lines) - len(kept)} rows without a value of {self.target} are left out.")
        return table.take(kept)

    def _learn(self, table: Table, labels: list[str] | None, parts: dict[str, np.ndarray]) -> None:
        """Note what is known of columns and target from the training rows."""
        names = [name for name in table.columns if name not in (self.target, self.group, *self.ignore)]
        columns, left_out = describe(table, names, parts["train"])
        if left_out:
            reasons = [f"{name} ({why})" for name, why in left_out.items()][:5]
            self._tell(f"columns that tell nothing are left out: {', '.join(reasons)}{' …' * (len(left_out) > 5)}.")
        target: dict[str, Any] = {"name": self.target, "kind": "class" if labels else "number"}
        if labels:
            untested = sorted(set(labels) - {labels[i] for i in parts["test"]})
            if untested:
                self._tell(f"too few rows to be tested: {', '.join(untested[:5])}{' …' * (len(untested) > 5)}.")
        else:
            values = np.array(table.numbers(self.target))[parts["train"]]
            target |= {"mean": float(values.mean()), "std": float(values.std()) or 1.0}
        class_names = sorted({labels[i] for i in parts["train"]}) if labels else None
        self.known = {"columns": columns, "target": target, "class_names": class_names}

    def _targets(self, table: Table) -> Tensor:
        """Return classes, ``(N,)`` int64, or standardised numbers, ``(N,)`` float32."""
        names, target = self.known["class_names"], self.known["target"]
        if names is None:
            numbers = torch.tensor(table.numbers(self.target), dtype=torch.float64)
            return ((numbers - target["mean"]) / target["std"]).float()
        labels, positions = table.columns[self.target], {name: i for i, name in enumerate(names)}
        if new := sorted(set(labels) - set(names)):
            raise UserError(f"{table.file} has the {self.target} {new[0]}, which the model was not trained with.")
        return torch.tensor([positions[label] for label in labels])

    @rank_zero_only
    def _tell(self, text: str) -> None:
        print(f"note: {self.file.name}: {text}", file=sys.stderr)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self._loader("predict")

    def _loader(self, split: str) -> DataLoader:
        (rows, indices), train = self.splits[split], split == "train"
        options = {"shuffle": train, "equal_shares": train, "seed": self.seed, "trainer": self.trainer}
        return gathered(rows, indices, self.batch_size, **options)  # rows[indices] is a whole batch

    def fingerprint(self) -> str:
        """Return a text that changes when the table changes."""
        return hashlib.blake2b(self.file.read_bytes(), digest_size=16).hexdigest()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Return what simple models reach that are trained on the same rows."""
        return evaluation.baselines(self)
