"""Callbacks of your own; ``trainer.callbacks`` in ``configs/default.yaml`` lists them."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class UnpredictedClasses(pl.Callback):
    """Warn of classes of the test masks that the model predicts for no pixel, as it may do with rare ones."""

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to count the true and the predicted pixels of each class, ``(2, num_classes)``."""
        self.counts = torch.zeros(2, pl_module.num_classes, device=pl_module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Tensor, batch: tuple[Tensor, Tensor], *args: Any
    ) -> None:
        """Count the pixels of a batch; ``outputs`` are its predicted classes, ``(B, H, W)`` uint8."""
        num_classes = self.counts.shape[1]
        for row, classes in zip(self.counts, (batch[1], outputs), strict=True):
            row += classes.flatten().bincount(minlength=num_classes)[:num_classes]  # 255 is no class

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the names of these classes."""
        true, predicted = trainer.strategy.reduce(self.counts, reduce_op="sum")  # over all processes
        labels = ((true > 0) & (predicted == 0)).nonzero().flatten().tolist()
        if labels and trainer.is_global_zero:
            names = [trainer.datamodule.class_names[label] for label in labels]
            print(f"classes that are predicted for no pixel: {', '.join(names)} (see --data.balance)")
