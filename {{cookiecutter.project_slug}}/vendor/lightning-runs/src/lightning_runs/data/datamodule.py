"""What data modules share whose items are split into parts: checks of options, loaders, and the levels of pixels."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import UserError


class SplitDataModule(pl.LightningDataModule):
    """A data module with the parts ``train``, ``val``, ``test`` and ``predict``; `loader` makes the loader of each.

    Args:
        least: Of options the value, None for one that is not given, and the least that it may be.
        fold: Which of ``num_folds`` parts is for validation, from 0; None is none of them.
        num_folds: Number of parts that are held out in turn; None takes a fraction.
        fractions: Options that lie between 0 and 1.

    Attributes:
        known: What is known of the training data, as plain values. It is in every checkpoint, and there before `setup`.
        splits: Of each part the data set, and the indices of the items that belong to it, ``(N,)`` int64.
        predicted: The part that is predicted: ``test``, or with folds ``val``.

    Raises:
        UserError: A value is out of its bounds.
    """

    def __init__(
        self, least: Mapping[str, tuple[int | None, int]], fold: int | None, num_folds: int | None, **fractions: float
    ) -> None:
        super().__init__()
        for name, (value, bound) in least.items():
            if value is not None and value < bound:
                raise UserError(f"data.{name} is {value}; it must be at least {bound}.")
        for name, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise UserError(f"data.{name} is {fraction}; it must lie between 0 and 1, such as 0.1.")
        if num_folds is not None and not (num_folds > 1 and 0 <= (fold or 0) < num_folds):
            raise UserError(f"data.fold is {fold} of data.num_folds {num_folds}; of at least 2 folds, the first is 0.")
        self.fold, self.num_folds = fold, num_folds
        self.predicted = "test" if num_folds is None or fold is None else "val"
        self.known: dict[str, Any] = {}
        self.splits: dict[str, tuple[Any, Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to know of the data: with it, new items are read as those for training were."""
        return self.known

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what a checkpoint knows of the data."""
        self.known = state_dict

    @rank_zero_only
    def tell(self, text: str) -> None:
        """Print a note, in the first process alone."""
        print(f"note: {text}", file=sys.stderr)

    def loader(self, part: str) -> DataLoader:
        """Return the loader of a part; a subclass has it."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training data."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation data."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the loader of the test data."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of the data to predict."""
        return self.loader("predict")

