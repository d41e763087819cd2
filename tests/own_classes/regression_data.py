import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class HousesDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(240, 4, generator=generator)
        noise = torch.randn(240, 1, generator=generator)
        y = x @ torch.tensor([[3.0], [-2.0], [1.0], [0.5]]) + 0.1 * noise
        self.train = TensorDataset(x[:160], y[:160])
        self.val = TensorDataset(x[160:200], y[160:200])
        self.test = TensorDataset(x[200:], y[200:])
        self.new_houses = x[200:]

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=self.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.new_houses, batch_size=self.batch_size)
