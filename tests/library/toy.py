"""A task of these tests' own, so that they hold whatever the project's own classes learn."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


class Toy(pl.LightningModule):
    """Learn the sum of four numbers."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(4, 1)

    def step(self, batch: list[Tensor], split: str) -> Tensor:
        loss = (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
        self.log(f"{split}/loss", loss)
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "test")

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> object:
        return self.layer(batch[0])[:, 0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


class ToyData(pl.LightningDataModule):
    """Random numbers and their sums."""

    def __init__(self, batch_size: int = 8, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers

    def dataset(self, count: int, seed: int) -> Dataset:
        numbers = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(numbers, numbers.sum(dim=1))

    def loader(self, count: int, seed: int, shuffle: bool = False) -> DataLoader:
        dataset = self.dataset(count, seed)
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=shuffle, num_workers=self.num_workers)

    def train_dataloader(self) -> DataLoader:
        return self.loader(48, 0, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self.loader(16, 1)

    def test_dataloader(self) -> DataLoader:
        return self.loader(16, 2)

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()
