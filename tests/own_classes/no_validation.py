import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class TrainOnlyDataModule(pl.LightningDataModule):
    def train_dataloader(self):
        images = torch.randn(160, 64, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(images), batch_size=16, shuffle=True)


class AutoEncoder(pl.LightningModule):
    def __init__(self, bottleneck: int = 3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, bottleneck))
        self.decoder = nn.Sequential(nn.Linear(bottleneck, 32), nn.ReLU(), nn.Linear(32, 64))

    def training_step(self, batch, batch_idx):
        (x,) = batch
        loss = nn.functional.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)
