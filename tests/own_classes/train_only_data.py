import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class TrainOnlyDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        images = torch.randn(160, 64, generator=torch.Generator().manual_seed(0))
        self.dataset = TensorDataset(images)

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=self.batch_size, shuffle=True)
