import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def corrupt_mnist(count, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(10, (count,), generator=generator)
    images = torch.randn(count, 1, 8, 8, generator=generator) + target.view(-1, 1, 1, 1)
    return TensorDataset(images, target)


class MyAwesomeModel(LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8 * 6 * 6, 10))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.classifier(self.features(x))

    def training_step(self, batch, batch_idx):
        data, target = batch
        preds = self(data)
        loss = self.criterion(preds, target)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        data, target = batch
        preds = self(data)
        self.log("val_loss", self.criterion(preds, target))
        self.log("val_acc", (target == preds.argmax(dim=-1)).float().mean())

    def test_step(self, batch, batch_idx):
        data, target = batch
        self.log("test_acc", (target == self(data).argmax(dim=-1)).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

    def train_dataloader(self):
        return DataLoader(corrupt_mnist(160, seed=0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(corrupt_mnist(40, seed=1), batch_size=16)

    def test_dataloader(self):
        return DataLoader(corrupt_mnist(40, seed=2), batch_size=16)
