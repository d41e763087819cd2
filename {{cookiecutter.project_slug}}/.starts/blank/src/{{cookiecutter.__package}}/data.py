"""The LightningDataModule, to be rewritten: which data there are, and in what batches."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class DigitsDataModule(pl.LightningDataModule):
    """Load the bundled digits: 1,797 images ``(B, 1, 8, 8)``, float in [0, 1], with labels ``(B,)``, 0 to 9.

    Args:
        batch_size: Images per step per device.
        num_workers: Processes that load batches.
    """

    def __init__(self, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers
        self.class_names = [str(digit) for digit in range(10)]

    def setup(self, stage: str) -> None:
        with np.load(Path(__file__).with_name("digits.npz")) as arrays:
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        train, test = (tensors[f"{part}_images"][:, None].float() / 255 for part in ("train", "test"))
        labelled = TensorDataset(train, tensors["train_labels"].long())
        self.train, self.val = random_split(labelled, [0.9, 0.1], torch.Generator().manual_seed(0))
        self.test = TensorDataset(test, tensors["test_labels"].long())
        self.predict = TensorDataset(test, torch.arange(len(test)))  # which image each prediction is of

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test)

    def predict_dataloader(self) -> DataLoader:
        return self._loader(self.predict)

    def _loader(self, dataset: Dataset, shuffle: bool = False) -> DataLoader:
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=shuffle, num_workers=self.num_workers)
