"""The data: a table behind one LightningDataModule."""

from pathlib import Path
from typing import Literal

import torch
from lightning_runs.data.batches import Items, batch_loader
from lightning_runs.data.datamodule import Balance, check_fraction
from lightning_runs.tables.datamodule import TableDataModule
from lightning_runs.tables.datasets import SOURCES, DatasetName
from lightning_runs.tables.reading import encode_table
from torch.utils.data import DataLoader

from .network import Standardize


class DataModule(TableDataModule):
    """Read a table, split it and batch it.

    Batches are numbers ``(B, num_numbers)``, float, standardised, words ``(B, W)``, int64, and targets ``(B,)``:
    classes, int64, or standardised numbers, float. Batches for ``predict`` are the columns as they were read,
    ``(B, C)`` float32, numbers, words, and the index of each row, ``(B,)``.

    Args:
        dataset: Which table. penguins and penguin_mass are part of this package: their species, or body mass in grams,
            is to be learned; csv_file is a table of your own.
        root: The CSV file of csv_file.
        target: The column to learn; csv_file needs it.
        kind: Whether the target is a class or a number; null takes words, and two different values, for classes.
        ignore: Columns to leave out.
        group: A column whose rows of the same value stay in the same part, such as a patient or a day.
        balance: Let all classes count the same in training. weights multiplies the loss of each row by the weight of
            its class; sampling draws as many rows of each class, some of them more than once.
        batch_size: Rows per step per device.
        val_fraction: Fraction of the training rows used for validation, between 0 and 1.
        test_fraction: Fraction of all rows that are tested, between 0 and 1.
        split_seed: Seed of the split; apart from the seed of a run, so that runs can be compared.
        fold: Which of ``num_folds`` parts of the untested rows is for validation, from 0, and predicted; null is none.
        num_folds: Parts for cross-validation; null takes ``val_fraction``.
        seed: Seed of the order; follows ``seed_everything``.
        predict_paths: CSV files, and folders of them, that ``predict`` takes instead of the test rows.

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
        balance: Balance = "none",
        batch_size: int = 16,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, fold, num_folds, balance, seed, predict_paths)
        check_fraction("data.test_fraction", test_fraction)
        source = SOURCES[dataset]
        self.file = Path(__file__).with_name(source.file) if source.file else Path(root)
        self.source = f"{dataset}: {source.credit}"
        self.target = target or source.target
        self.kind = kind
        self.ignore = ignore or []
        self.group = group
        self.test_fraction = test_fraction

    def setup(self, stage: str) -> None:
        """Read the table and split it; the same whatever ``stage`` is, so it happens once."""
        if self.splits:
            return
        if self.predict_paths is not None:
            columns = torch.from_numpy(self.read_new_rows())
            rows = Items(columns, *Standardize(self.known["columns"])(columns), torch.arange(len(columns)))
            self.splits = {"predict": (rows, rows.labels)}
            return
        table = self.read_rows()  # without the rows that have no target
        labels = self.class_of_each_row(table)  # (N,) str, or None where the target is a number
        groups = table.columns[self.group].astype(str) if self.group else None
        parts = self.split_items(len(table.row_names), labels, groups, self.test_fraction)
        self.check_parts(parts, table.file, minimum=2)
        if not self.known:
            self.describe_rows(table, labels, parts)  # mean, standard deviation and words of the training rows
        columns = torch.from_numpy(encode_table(table, self.known["columns"]))  # (N, C) float32
        numbers, words = Standardize(self.known["columns"])(columns)  # (N, num_numbers) float, (N, W) int64
        targets = self.encode_targets(table)  # (N,)
        rows = Items(numbers, words, targets)
        self.splits = {part: (rows, indices) for part, indices in parts.items()}
        self.splits["predict"] = (Items(columns, numbers, words, targets).numbered(), parts[self.predicted_part])

    def train_dataloader(self) -> DataLoader:
        self.check_items()
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self.loader("predict")

    def loader(self, part: str) -> DataLoader:
        """Return the loader of a part; ``rows[indices]`` is a whole batch."""
        rows, indices = self.splits[part]
        is_train = part == "train"
        return batch_loader(
            rows,
            indices,
            self.batch_size,
            train=is_train,
            seed=self.seed,
            trainer=self.trainer,
            classes=rows.labels[indices] if is_train and self.balance == "sampling" else None,
        )
