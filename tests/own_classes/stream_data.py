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
        buffer = []
        for _ in range(self.count):
            label = int(torch.randint(10, (), generator=generator))
            buffer.append((torch.randn(64, generator=generator) + label, label))
            if len(buffer) > 8:
                yield buffer.pop(random.randrange(len(buffer)))
        yield from buffer


class StreamDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(SensorStream(160, seed=0), batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(SensorStream(40, seed=1), batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(SensorStream(40, seed=2), batch_size=self.batch_size)
