"""The LightningModule, to be rewritten: batch -> loss -> logged metrics."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


class DigitClassifier(pl.LightningModule):
    """Classify images of digits. Logs ``loss`` (cross-entropy, in nats) and ``accuracy`` of each split.

    Args:
        hidden_size: Units in the hidden layer.
        dropout: Fraction of these units that is zeroed in training, 0 to 1.
        lr: Learning rate of Adam.
    """

    headline = ("accuracy", "max", "%")  # the metric that counts

    def __init__(self, hidden_size: int = 128, dropout: float = 0.1, lr: float = 0.003) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_size, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 1, 8, 8)``, float in [0, 1], to logits ``(B, 10)``."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "test")

    def _step(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        metrics = {f"{split}/loss": loss, f"{split}/accuracy": accuracy}
        self.log_dict(metrics, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)  # means over an epoch
        return loss

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        images, index = batch
        return {"index": index, "probabilities": self(images).softmax(dim=1)}

    def exported(self) -> nn.Module:  # from images to probabilities
        return nn.Sequential(self.network, nn.Softmax(dim=1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
