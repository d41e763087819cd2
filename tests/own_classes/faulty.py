import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from .classifier import LitClassifier


class FaultyModule(LitClassifier):
    def __init__(self, has_loss: bool = True, lr: float = 1e-2):
        super().__init__(lr=lr)
        self.has_loss = has_loss

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if self.has_loss else None


class FaultyData(pl.LightningDataModule):
    def __init__(self, empty="", missing=False, batch_size=16, shuffle=False):
        super().__init__()
        self.save_hyperparameters()  # and no attribute of its own

    def loader(self, split, **options):
        numbers = torch.linspace(0, 1, 64)
        if self.hparams.missing:
            numbers = numbers * float("nan")
        count = 0 if self.hparams.empty == split else len(numbers)
        dataset = TensorDataset(numbers[:count, None].expand(count, 64), torch.arange(count) % 10)
        return DataLoader(dataset, batch_size=self.hparams.batch_size, **options)

    def train_dataloader(self):
        return self.loader("train", drop_last=True, shuffle=self.hparams.shuffle)

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")
