import random

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset


class SensorStream(IterableDataset):
    def __init__(self, count, seed):
        self.count = count
        self.seed = seed

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        for label in torch.randint(10, (self.count,), generator=generator):
            yield torch.randn(64, generator=generator) + label + random.random(), label


class StreamDataModule(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(SensorStream(160, seed=0), batch_size=16)

    def val_dataloader(self):
        return DataLoader(SensorStream(40, seed=1), batch_size=16)

    def test_dataloader(self):
        return DataLoader(SensorStream(40, seed=2), batch_size=16)
