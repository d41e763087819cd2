"""Callbacks written for this project; Lightning's own are configured in ``configs/default.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor



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
