import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import MeanSquaredError, R2Score


class Regressor(pl.LightningModule):
    def __init__(self, hidden_size: int = 16, learning_rate: float = 1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
        self.val_rmse = MeanSquaredError(squared=False)
        self.test_rmse = MeanSquaredError(squared=False)
        self.test_r2 = R2Score()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_mse", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_rmse(self(x), y)
        self.log("val_rmse", self.val_rmse, on_epoch=True)

    def test_step(self, batch, batch_idx):
        x, y = batch
        prediction = self(x)
        self.test_rmse(prediction, y)
        self.test_r2(prediction, y)
        self.log_dict({"test_rmse": self.test_rmse, "test_r2": self.test_r2})

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_rmse"}}
