from torch.utils.data import DataLoader

from .classifier import LitClassifier
from .plain_data import random_digits


class MyAwesomeModel(LitClassifier):
    def train_dataloader(self):
        return DataLoader(random_digits(160, seed=0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(random_digits(40, seed=1), batch_size=16)

    def test_dataloader(self):
        return DataLoader(random_digits(40, seed=2), batch_size=16)
