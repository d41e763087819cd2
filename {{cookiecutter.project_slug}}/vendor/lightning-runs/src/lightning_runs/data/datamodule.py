"""The base of data modules whose items are split into parts."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ..errors import UserError
from .classes import class_metrics, class_weights
from .folders import copied_files, print_note

NUM_SEEN = 32  # training images that are looked at
Balance = Literal["none", "weights", "sampling"]


class SplitDataModule(pl.LightningDataModule):
    """Hold the parts ``train``, ``val``, ``test`` and ``predict``.

    A subclass fills `splits` in `setup`, has the loaders, and documents the options. ``sampling`` is up to the loaders.
    """

    def __init__(
        self,
        batch_size: int,
        val_fraction: float,
        split_seed: int = 0,
        fold: int | None = 0,
        num_folds: int | None = None,
        balance: Balance = "none",
        seed: int = 0,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_minimum("data.batch_size", batch_size, 1)
        check_fraction("data.val_fraction", val_fraction)
        if num_folds is not None and not (num_folds > 1 and 0 <= (fold or 0) < num_folds):
            raise UserError(f"data.fold is {fold}, data.num_folds is {num_folds}; at least 2 folds are needed, from 0.")
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.fold = fold
        self.num_folds = num_folds
        self.balance = balance
        self.seed = seed
        self.predict_paths = predict_paths
        self.predicted_part = "test" if num_folds is None or fold is None else "val"
        # plain values that describe the training data; checkpoints keep them, and give them back before `setup`
        self.known: dict[str, Any] = {}
        # the data set of each part, and the indices of its items, (N,) int64
        self.splits: dict[str, tuple[Any, Tensor]] = {}
        self.is_checked = False

    @property
    def class_names(self) -> list[str]:
        """The name of each class, in the order of the labels; empty where there are no classes."""
        if "class_names" not in self.known:
            self.setup("fit")
        return self.known["class_names"]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def loss_weights(self) -> list[float] | None:
        """The weight of each class in the training loss, which fills the model's argument; None is 1 for each."""
        if self.balance != "weights":
            return None
        self.prepare_data()  # the command line asks before the Trainer has prepared anything
        self.setup("fit")
        return class_weights(self.part_classes("train"), self.num_classes).tolist()

    def part_classes(self, part: str) -> Tensor:
        """Return the classes of a part's items, ``(M,)``."""
        return self.splits[part][0].classes(self.splits[part][1])

    def class_counts(self, part: str) -> Tensor:
        """Count the classes of a part's items that can be read, ``(num_classes,)`` int64."""
        dataset = self.splits[part][0]
        return dataset.classes(dataset.readable(self.splits[part][1])).bincount(minlength=self.num_classes)

    def split_items(
        self, count: int, labels: Any = None, groups: Any = None, test_fraction: float = 0.0
    ) -> dict[str, Tensor]:
        """Split items into ``train``, ``val`` and ``test``; return the indices of each part, ``(N,)`` int64.

        The options of this data module choose the items for validation among those that are not tested, one at least.

        Args:
            count: Number of items.
            labels: The class of each, ``(count,)``: each part has its share, but a class of one item is for training.
            groups: The group of each, ``(count,)``: the items of a group are in the same part.
            test_fraction: Fraction of all items that is tested.
        """
        unit_of_item = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
        order = np.random.default_rng(self.split_seed).permutation(unit_of_item.max() + 1)
        if labels is not None and groups is None:  # a class stands together, so each part takes its share of it
            order = order[np.argsort(labels[order], kind="stable")]
        is_test = _evenly_spread(len(order), test_fraction)
        rest = order[~is_test]
        is_val = _evenly_spread(len(rest), max(self.val_fraction, 1 / count))
        if self.num_folds:
            is_val = np.arange(len(rest)) % self.num_folds == (-1 if self.fold is None else self.fold)
        part_of_unit = np.full(len(order), "train")
        part_of_unit[order[is_test]] = "test"
        part_of_unit[rest[is_val]] = "val"
        parts = part_of_unit[unit_of_item]
        for part, others in (("test", ("train", "val")), ("val", ("train",))):
            if labels is None:
                break
            is_rare = (parts == part) & ~np.isin(labels, labels[np.isin(parts, others)])
            if groups is not None and is_rare.any():
                text = f"data.group leaves the class {min(labels[is_rare])} without a group in the training part."
                raise UserError(f"{text} Try another --data.split_seed.")
            parts[is_rare] = "train"
        return {part: torch.from_numpy(np.flatnonzero(parts == part)) for part in ("train", "val", "test")}

    def check_parts(self, parts: dict[str, Tensor], source: object, minimum: int = 1) -> None:
        """Refuse parts with fewer items of the file ``source``; without a fold, the part ``val`` may be empty."""
        count = sum(map(len, parts.values()))
        for part, indices in parts.items():
            if len(indices) < minimum and not (part == "val" and self.fold is None):
                text = f"the part {part} has {len(indices)} of the {count} items of {source}; it needs {minimum}."
                raise UserError(f"{text} Add items, or change the fraction of a part, such as --data.val_fraction 0.3.")

    def check_known(self) -> None:
        """Refuse to read new items without a run."""
        if not self.known:
            raise UserError("data.predict_paths needs a trained run. Use: predict PATH --run NAME.")

    def fingerprint(self) -> str:
        """Return a text that changes when the items or their labels change."""
        self.setup("fit")
        digest = hashlib.blake2b(digest_size=16)
        datasets = [self.splits[part][0] for part in ("train", "val", "test")]
        for dataset in dict.fromkeys(datasets):  # parts may share one
            for content in dataset.content():
                digest.update(content)
        return digest.hexdigest()

    def baseline(self) -> dict[str, dict[str, float]]:
        """Return the test metrics of a model that always predicts the most frequent training class."""
        self.setup("fit")
        labels = self.part_classes("test")
        predicted = self.part_classes("train").bincount().argmax().expand(len(labels))
        metrics = class_metrics(predicted, labels, self.num_classes)
        return {"most frequent class": {f"test/{name}": value for name, value in metrics.items()}}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data, by which new items are read like those for training."""
        return self.known

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what a checkpoint kept of the data."""
        self.known = state_dict

    def copies(self, part: str) -> list[Any]:
        """List the items of a part that are in the training part too, by their names; of files, equal ones."""
        found = []
        for dataset, indices in (self.splits[part], self.splits["train"]):
            files = getattr(dataset, "files", None)
            found.append([Path(files[i]) for i in indices.tolist()] if files else [])
        return copied_files(*found)

    def check_items(self) -> None:
        """Refuse training images of one value or all dark, and report items of other parts that are in training too."""
        if self.is_checked:
            return
        self.is_checked = True
        dataset, indices = self.splits["train"]
        if getattr(dataset, "files", None):
            seen = indices[:: 1 + len(indices) // NUM_SEEN]
            pixels = dataset[seen][0].flatten(1)
            if (pixels.amin(dim=1) == pixels.amax(dim=1)).all() or pixels.max() < 16:
                text = f"{dataset.files[seen[0]]} and all of {len(pixels)} training images that were read have a single"
                raise UserError(f"{text} value each, or none above 15 of 255. Save them opaque, in 8 bits per channel.")
        for part in ("val", "test"):
            names = self.copies(part)
            if names:
                text = f"{len(names)} of {len(self.splits[part][1])} items of the part {part} are in training too"
                print_note(f"{text}, such as {names[0]}. Remove the copies: the metrics of {part} are too good.")


def _evenly_spread(count: int, fraction: float) -> np.ndarray:
    """Mark a fraction of positions, ``(count,)`` bool."""
    return np.diff(np.floor(np.arange(count + 1) * fraction + 0.5)) > 0


def check_minimum(option: str, value: int | None, minimum: int) -> None:
    """Refuse a value below its minimum; None is allowed."""
    if value is not None and value < minimum:
        raise UserError(f"{option} is {value}; it must be at least {minimum}.")


def check_fraction(option: str, value: float) -> None:
    """Refuse a value that does not lie between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"{option} is {value}; it must lie between 0 and 1, such as 0.1.")
