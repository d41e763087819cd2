"""Callbacks written for this project; Lightning's own are configured in ``configs/default.yaml``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from .errors import UserError
from .runs import Run


class PredictionImages(Callback):
    """Log what a number can't show: how often each class is predicted, and example images with their labels.

    They go to W&B, TensorBoard or MLflow as ``val/predictions`` and ``val/examples`` (``test/…`` after testing);
    with the csv logger or none they are PNG files in the run's folder, ``images/``.

    Args:
        every_n_epochs: Epochs between two logs in validation; the first epoch is always logged.
        num_images: Number of example images.
    """

    def __init__(self, every_n_epochs: int = 5, num_images: int = 16) -> None:
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images
        self._predicted: list[Tensor] = []
        self._examples: tuple[Tensor, Tensor, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget()

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking and trainer.current_epoch % self.every_n_epochs == 0:
            self._remember(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._remember(outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, "test")

    def _forget(self) -> None:
        self._predicted, self._examples = [], None

    def _remember(self, logits: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        predicted = logits.argmax(dim=1)
        self._predicted.append(predicted)  # stays on the device: moving it would make every batch wait
        if self._examples is None:
            images, labels = batch
            self._examples = (images[: self.num_images], labels[: self.num_images], predicted[: self.num_images])

    def _log(self, trainer: pl.Trainer, split: str) -> None:
        if self._examples is None or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        data = trainer.datamodule
        names = data.class_names
        images, labels, predicted = (tensor.cpu() for tensor in self._examples)
        images = data.denormalize(images)
        captions = [
            f"{names[p]}" if p == t else f"{names[p]} (is {names[t]})"
            for p, t in zip(predicted.tolist(), labels.tolist(), strict=True)
        ]
        predictions = torch.cat(self._predicted).cpu()
        self._forget()
        shown = [
            log_images(logger, split, images, captions, predictions, trainer.global_step) for logger in trainer.loggers
        ]
        if not any(shown):
            folder = Path(trainer.default_root_dir) / "images"
            folder.mkdir(parents=True, exist_ok=True)
            stem = f"{split}_epoch_{trainer.current_epoch:03d}" if split == "val" else split
            draw_grid(images, captions).save(folder / f"{stem}_examples.png")
            counts = torch.bincount(predictions, minlength=len(names)).tolist()
            draw_histogram(counts, names).save(folder / f"{stem}_predictions.png")


def log_images(logger: Logger, split: str, images: Tensor, captions: list[str], predictions: Tensor, step: int) -> bool:
    """Log a histogram of predictions and example images, and say whether this logger can.

    Args:
        logger: W&B's, TensorBoard's or MLflow's; any other one is passed over.
        split: First part of the names under which they are logged.
        images: ``(B, C, H, W)`` uint8.
        captions: A caption for each image.
        predictions: Predicted classes of the whole split, ``(N,)`` int64.
        step: Optimizer steps so far.
    """
    if isinstance(logger, WandbLogger):
        import wandb

        pictures = [
            wandb.Image(image.permute(1, 2, 0).squeeze(2).numpy(), caption=caption)
            for image, caption in zip(images, captions, strict=True)
        ]
        counts = torch.bincount(predictions).numpy()
        histogram = wandb.Histogram(np_histogram=(counts, np.arange(len(counts) + 1)))
        media: dict[str, Any] = {f"{split}/predictions": histogram, f"{split}/examples": pictures}
        logger.log_metrics(media, step=step)
    elif isinstance(logger, TensorBoardLogger):
        grid = np.asarray(draw_grid(images, captions))
        logger.experiment.add_image(f"{split}/examples", grid, step, dataformats="HWC")
        logger.experiment.add_histogram(f"{split}/predictions", predictions, step)
    elif isinstance(logger, MLFlowLogger):
        counts = torch.bincount(predictions).tolist()
        for name, picture in (
            ("examples", draw_grid(images, captions)),
            ("predictions", draw_histogram(counts, [str(i) for i in range(len(counts))])),
        ):
            logger.experiment.log_image(logger.run_id, picture, artifact_file=f"{split}/{name}_{step:06d}.png")
    else:
        return False
    return True


def draw_grid(images: Tensor, captions: list[str], columns: int = 4, cell: int = 128) -> Image.Image:
    """Draw images ``(B, C, H, W)`` uint8 in rows, each above its caption."""
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * cell, rows * (cell + 16)), "white")
    pen = ImageDraw.Draw(grid)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % columns * cell, i // columns * (cell + 16)
        array = image.permute(1, 2, 0).squeeze(2).numpy()
        picture = Image.fromarray(array).convert("RGB")
        picture.thumbnail((cell - 4, cell - 4))
        scale = max(1, (cell - 4) // max(picture.size))
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
        grid.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
        pen.text((x + cell // 2, y + cell), caption, fill="black", anchor="ma")
    return grid


def draw_histogram(counts: list[int], names: list[str], row: int = 18, width: int = 480) -> Image.Image:
    """Draw a bar for each count, beside its name."""
    picture = Image.new("RGB", (width, row * len(counts) + 4), "white")
    pen = ImageDraw.Draw(picture)
    left = int(max(pen.textlength(name) for name in names)) + 8
    longest = width - left - 40
    for i, count in enumerate(counts):
        y, length = i * row + 2, longest * count // max(1, *counts)
        pen.text((left - 4, y + 2), names[i], fill="black", anchor="ra")
        pen.rectangle((left, y + 2, left + length, y + row - 4), fill="#4477aa")
        pen.text((left + length + 4, y + 2), str(count), fill="black")
    return picture


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
