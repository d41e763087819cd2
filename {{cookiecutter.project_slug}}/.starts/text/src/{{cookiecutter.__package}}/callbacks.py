"""Callbacks of your own; ``trainer.callbacks`` in ``configs/default.yaml`` lists them."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class HardestClass(pl.Callback):
    """Print the class of the test texts that is recognised least often.

    Args:
        min_texts: Classes with fewer test texts are left out, since their recall is a matter of luck.
    """

    def __init__(self, min_texts: int = 10) -> None:
        self.min_texts = min_texts

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to count texts, and correct predictions, of each class, ``(2, num_classes)``."""
        self.counts = torch.zeros(2, pl_module.num_classes, device=pl_module.device)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Tensor, batch: Any, *args: Any) -> None:
        """Count the texts of a batch; ``outputs`` are its logits, ``(B, num_classes)``."""
        _, labels = batch
        correct = labels[outputs.argmax(dim=1) == labels]
        self.counts += torch.stack([classes.bincount(minlength=outputs.shape[1]) for classes in (labels, correct)])

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the class with the lowest recall."""
        texts, correct = trainer.strategy.reduce(self.counts, reduce_op="sum")  # over all processes
        recall = (correct / texts).where(texts >= self.min_texts, torch.inf)
        hardest = int(recall.argmin())
        if trainer.is_global_zero and recall[hardest].isfinite():
            name = trainer.datamodule.class_names[hardest]
            print(f"hardest class: {name}, {int(correct[hardest])} of {int(texts[hardest])} test texts recognised")
