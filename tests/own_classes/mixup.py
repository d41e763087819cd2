import random

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy


class MixupModel(pl.LightningModule):
    def __init__(self, learning_rate: float = 0.01, alpha: float = 0.4):
        super().__init__()
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
        self.loss = nn.CrossEntropyLoss()
        self.val_acc = MulticlassAccuracy(num_classes=10)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = np.random.beta(self.alpha, self.alpha)
        perm = torch.randperm(x.size(0), device=self.device)
        if random.random() < 0.5:
            x = lam * x + (1 - lam) * x[perm]
        logits = self(x)
        loss = lam * self.loss(logits, y) + (1 - lam) * self.loss(logits, y[perm])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_acc(logits, y)
        self.log_dict({"val_loss": self.loss(logits, y), "val_acc": self.val_acc})

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", self.loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)
