from torch.utils.data import DataLoader

from .classifier import LitClassifier
from .plain_data import RandomDigits


class MyAwesomeModel(LitClassifier):
    def train_dataloader(self):
        return DataLoader(RandomDigits(160, seed=0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(RandomDigits(40, seed=1), batch_size=16)

    def test_dataloader(self):
        return DataLoader(RandomDigits(40, seed=2), batch_size=16)
