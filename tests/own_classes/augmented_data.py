import random

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset


class AugmentedDigits(Dataset):
    def __init__(self, count, seed, train):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(10, (count,), generator=generator)
        self.images = torch.randn(count, 1, 8, 8, generator=generator) + self.labels.view(-1, 1, 1, 1)
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.train:
            image = image + 0.1 * torch.randn(image.shape)
            image = torch.roll(image, int(np.random.randint(-1, 2)), dims=2)
            if random.random() < 0.5:
                image = image.flip(2)
        return image, self.labels[index]


class AugmentedDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16, num_workers: int = 2):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        dataset = AugmentedDigits(160, seed=0, train=True)
        return DataLoader(dataset, self.hparams.batch_size, shuffle=True, num_workers=self.hparams.num_workers)

    def val_dataloader(self):
        dataset = AugmentedDigits(40, seed=1, train=True)
        return DataLoader(dataset, self.hparams.batch_size, num_workers=self.hparams.num_workers)

    def test_dataloader(self):
        return DataLoader(AugmentedDigits(40, seed=2, train=False), self.hparams.batch_size)
