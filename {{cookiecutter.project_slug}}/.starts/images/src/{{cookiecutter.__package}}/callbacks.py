"""Callbacks of your own; ``trainer.callbacks`` in ``configs/default.yaml`` lists them."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class HardestClass(pl.Callback):
    """Print the class of the test images that is recognised least often.

    Args:
        min_images: Classes with fewer test images are left out, since their recall is a matter of luck.
    """

    def __init__(self, min_images: int = 10) -> None:
        self.min_images = min_images

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to count images, and correct predictions, of each class, ``(2, num_classes)``."""
        self.counts = torch.zeros(2, pl_module.num_classes, device=pl_module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Tensor, batch: tuple[Tensor, Tensor], *args: Any
    ) -> None:
        """Count the images of a batch; ``outputs`` are its logits, ``(B, num_classes)``."""
        labels = batch[1]
        correct = labels[outputs.argmax(dim=1) == labels]
        for row, classes in zip(self.counts, (labels, correct), strict=True):
            row += classes.bincount(minlength=len(row))

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the class with the lowest recall."""
        images, correct = trainer.strategy.reduce(self.counts, reduce_op="sum")  # over all processes
        recall = (correct / images).where(images >= self.min_images, torch.inf)
        hardest = int(recall.argmin())
        if trainer.is_global_zero and recall[hardest].isfinite():
            name = trainer.datamodule.class_names[hardest]
            print(f"hardest class: {name}, {int(correct[hardest])} of {int(images[hardest])} test images recognised")
