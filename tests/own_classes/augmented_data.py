import random

import numpy as np
import torch

from .plain_data import DigitsDataModule, RandomDigits


class AugmentedDigits(RandomDigits):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        image = image + 0.1 * torch.randn(image.shape)
        image = torch.roll(image, int(np.random.randint(-1, 2)), dims=2)
        if random.random() < 0.5:
            image = image.flip(2)
        return image, label


class AugmentedDataModule(DigitsDataModule):
    def __init__(self, batch_size: int = 16, num_workers: int = 2):
        super().__init__(batch_size, num_workers)

    def setup(self, stage):
        self.digits_train = AugmentedDigits(160, seed=0)
        self.digits_val = AugmentedDigits(40, seed=1)
        self.digits_test = RandomDigits(40, seed=2)
