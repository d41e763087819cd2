"""Callbacks of your own; ``trainer.callbacks`` in ``configs/default.yaml`` lists them."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl


class PredictionSpeed(pl.Callback):
    """Print how many rows per second the model predicts in the test.

    Args:
        skip_batches: Batches that are not timed: the first ones allocate memory.
    """

    def __init__(self, skip_batches: int = 1) -> None:
        self.skip_batches = skip_batches
        self.num_rows = 0
        self.start = 0.0

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *args: Any) -> None:
        """Begin to count rows, and seconds."""
        if batch_idx == self.skip_batches:
            self.num_rows = 0
            self.start = time.perf_counter()

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Count the rows of a batch."""
        if batch_idx >= self.skip_batches:
            self.num_rows += len(batch[-1])

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Print rows per second of this process."""
        if trainer.is_global_zero and self.num_rows:
            seconds = time.perf_counter() - self.start
            print(f"test speed: {self.num_rows / seconds:,.0f} rows per second")
