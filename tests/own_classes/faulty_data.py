import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class FaultyData(pl.LightningDataModule):
    def __init__(self, empty: str = "", missing: bool = False, batch_size: int = 16, shuffle: bool = False):
        super().__init__()
        self.save_hyperparameters()  # and no attribute of its own

    def loader(self, split, **options):
        x = torch.linspace(0, 1, 64)[:, None]
        y = x * float("nan") if self.hparams.missing else 2 * x
        count = 0 if self.hparams.empty == split else len(x)
        return DataLoader(TensorDataset(x[:count], y[:count]), batch_size=self.hparams.batch_size, **options)

    def train_dataloader(self):
        return self.loader("train", drop_last=True, shuffle=self.hparams.shuffle)

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")
