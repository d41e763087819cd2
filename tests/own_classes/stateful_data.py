import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


def digits(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    return torch.randn(count, 64, generator=generator) + labels.view(-1, 1), labels


class ResumableLoader:
    def __init__(self, images, labels, batch_size):
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.epoch = 0
        self.position = 0

    def __len__(self):
        return len(self.images) // self.batch_size

    def __iter__(self):
        if self.position == len(self):
            self.epoch += 1
            self.position = 0
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(self.epoch))
        while self.position < len(self):
            batch = order[self.position * self.batch_size :][: self.batch_size]
            self.position += 1
            yield self.images[batch], self.labels[batch]

    def state_dict(self):
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state):
        self.epoch, self.position = state["epoch"], state["position"]


class ResumableDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return ResumableLoader(*digits(160, seed=0), self.batch_size)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*digits(40, seed=1)), self.batch_size)

    def test_dataloader(self):
        return DataLoader(TensorDataset(*digits(40, seed=2)), self.batch_size)
