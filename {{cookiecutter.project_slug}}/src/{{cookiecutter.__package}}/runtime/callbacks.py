"""Callbacks that every run has, and the progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from .errors import UserError
from .runs import Run


class CheckMonitors(Callback):
    """Refuse a misspelt metric of a checkpoint, of early stopping or of a schedule before the first epoch is trained.

    Raises:
        UserError: A callback or schedule monitors a validation metric that is not logged.
    """

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics
        monitors = [(callback, getattr(callback, "monitor", None)) for callback in trainer.callbacks]
        monitors += [(config.scheduler, config.monitor) for config in trainer.lr_scheduler_configs]
        for monitor, metric in monitors:
            if isinstance(metric, str) and metric.startswith("val/") and metric not in logged:
                name = type(monitor).__name__
                raise UserError(f"{name} monitors {metric}, which is not logged. Choose one of {', '.join(logged)}.")


class SeedSteps(Callback):
    """Seed torch before each step from seed, epoch, batch and rank, so that dropout is the same in a resumed run.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rank = trainer.global_rank
        seeds: dict[str, Callable[[int], Any]] = {"cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}
        self._seed_device = seeds.get(pl_module.device.type)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # the hash of a tuple of whole numbers is the same in every process
        seed = hash((self.seed, trainer.current_epoch, batch_idx, self._rank)) & (2**63 - 1)
        torch.default_generator.manual_seed(seed)  # 1 µs, for `torch.manual_seed` takes 89
        if self._seed_device is not None:
            self._seed_device(seed)


class Throughput(Callback):
    """Record in ``run.json``, after each epoch, how many there were, and the images and seconds of training alone.

    Args:
        run: The run. What an earlier process has recorded of it is added to.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._first, self._seconds, self._since = 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # which is not called where a run goes on within an epoch
        self._first = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first, self._seconds, self._since = 0, 0.0, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds += time.perf_counter() - self._since

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        seconds = self._seconds + time.perf_counter() - self._since
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed - self._first
        before = self.run.record
        self.run.update(
            epochs=trainer.current_epoch + 1,
            train_images=before.get("train_images", 0) + batches * trainer.datamodule.batch_size * trainer.world_size,
            train_seconds=round(before.get("train_seconds", 0.0) + seconds, 3),
        )


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar in a terminal; a line for each epoch where the output goes to a file.

    Args:
        refresh_rate: Batches between two updates of the bar; drawing it takes longer than a small network's step.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not sys.stderr.isatty():
            self.disable()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled:
            super().on_train_epoch_end(trainer, pl_module)
        elif trainer.is_global_zero:
            metrics = self.get_metrics(trainer, pl_module)
            values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, float))
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}", flush=True)
