import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split


def random_digits(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    return TensorDataset(torch.randn(count, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1), labels)


class DigitsDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16, num_workers: int = 0):
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers

    def setup(self, stage):
        self.digits_train, self.digits_val = random_split(random_digits(200, seed=0), [160, 40])
        self.digits_test = random_digits(40, seed=1)

    def train_dataloader(self):
        return DataLoader(self.digits_train, self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(self.digits_val, self.batch_size, num_workers=self.num_workers)

    def test_dataloader(self):
        return DataLoader(self.digits_test, batch_size=self.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.digits_test, batch_size=self.batch_size)
