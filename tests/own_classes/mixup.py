import random

import numpy as np
import torch
from torch import nn

from .classifier import LitClassifier


class MixupModel(LitClassifier):
    def __init__(self, alpha: float = 0.4):
        super().__init__()
        self.alpha = alpha
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = np.random.beta(self.alpha, self.alpha)
        perm = torch.randperm(len(x), device=self.device)
        if random.random() < 0.5:
            x = lam * x + (1 - lam) * x[perm]
        logits = self(x)
        loss = lam * self.loss(logits, y) + (1 - lam) * self.loss(logits, y[perm])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
