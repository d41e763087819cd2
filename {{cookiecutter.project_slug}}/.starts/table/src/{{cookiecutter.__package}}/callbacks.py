"""Callbacks of your own; ``trainer.callbacks`` in ``configs/default.yaml`` lists them."""

import time
from typing import Any

import pytorch_lightning as pl


class BatchSpeed(pl.Callback):
    """Print how many batches per second the test takes, whatever the two classes are.

    Args:
        skip_batches: Batches that are not timed: the first ones allocate memory.
    """

    def __init__(self, skip_batches: int = 1) -> None:
        self.skip_batches = skip_batches
        self.num_batches = 0
        self.start = 0.0

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *args: Any) -> None:
        """Count a batch; the first one that counts starts the clock."""
        if batch_idx == self.skip_batches:
            self.num_batches = 0
            self.start = time.perf_counter()
        if batch_idx >= self.skip_batches:
            self.num_batches += 1

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Print batches per second of the first process."""
        if trainer.is_global_zero and self.num_batches:
            seconds = time.perf_counter() - self.start
            print(f"callbacks.py: {self.num_batches / seconds:,.0f} batches per second in the test")
