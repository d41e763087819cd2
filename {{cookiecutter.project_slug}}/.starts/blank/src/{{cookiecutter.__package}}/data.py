"""The LightningDataModule, to be rewritten: it reads, splits and batches the data."""

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
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.class_names = [str(digit) for digit in range(10)]

    def setup(self, stage: str) -> None:
        with np.load(Path(__file__).with_name("digits.npz")) as arrays:
            digits = {name: torch.from_numpy(array) for name, array in arrays.items()}
        images = digits["train_images"][:, None].float() / 255  # (N, 1, 8, 8)
        train = TensorDataset(images, digits["train_labels"].long())
        self.train, self.val = random_split(train, [0.9, 0.1], torch.Generator().manual_seed(0))
        images = digits["test_images"][:, None].float() / 255
        self.test = TensorDataset(images, digits["test_labels"].long())
        self.predict = TensorDataset(images, torch.arange(len(images)))  # the index of each image

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
