"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_runs.errors import UserError
from lightning_runs.masks import reading
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from . import evaluation
from .data import DataModule
from .datasets import IGNORED


class SegmentationModel(pl.LightningModule):
    """Tell the class of each pixel with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over all batches of an epoch, and over the whole split ``val/loss``, ``val/mean_iou``,
    ``val/f1``, ``val/accuracy`` and the same of ``test``; of up to 24 classes also ``test/iou_NAME``. IoU of a class is
    the number of pixels that are of it and predicted so, over the number that are one or the other, in all images
    together; mean_iou is its mean over the classes that are there, as f1 is of the harmonic mean of precision and
    recall. Accuracy is the fraction of all pixels that are right. Pixels without a class count nowhere. The loss of a
    batch is the mean cross-entropy of its pixels, in nats, and ``dice`` times the Dice loss.

    Args:
        input_shape: Channels, height and width of an image; taken from the data.
        facts: What is known of images and masks, ``class_names`` among it; taken from the data.
        network: Called with ``input_shape`` and the number of classes, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule; null keeps the rate constant.
        dice: Weight of the Dice loss (https://arxiv.org/abs/1606.04797), 0 or more. It counts each class alike,
            however few pixels it has.
        compile: Compile the network with ``torch.compile``; worth its minute of start-up on a GPU and long runs.
        channels_last: Keep images and the weights of convolutions in memory with the channels last, which is faster.

    Raises:
        UserError: ``dice`` is negative, or the output of the network does not fit.
    """

    headline = ("mean_iou", "max", "%")
    loss_weights: Tensor | None = None  # of the classes in training, as the data has them

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        facts: dict[str, Any],
        network: Callable[[tuple[int, int, int], int], nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        dice: float = 0.5,
        compile: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if not dice >= 0:
            raise UserError(f"model.dice is {dice}; it must be 0 or more, such as 0.5.")
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters()
        self.facts, self.num_classes = facts, len(facts["class_names"])
        self.network = network(input_shape, self.num_classes)
        self.optimizer, self.scheduler, self.dice, self.channels_last = optimizer, scheduler, dice, channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            self.network.compile()  # in place: `torch.compile(network)` would put "_orig_mod." into checkpoint keys
        self.val_metrics, self.test_metrics = self._metrics(), self._metrics()

    def _metrics(self) -> Any:
        counts = MulticlassConfusionMatrix(self.num_classes, ignore_index=IGNORED, validate_args=False)
        return nn.ModuleDict({"loss": MeanMetric(nan_strategy="ignore"), "counts": counts})

    def on_fit_start(self) -> None:
        """Move the weights of the classes to the device."""
        weights = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        self.loss_weights = None if weights is None else weights.to(self.device)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes, H, W)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.network(images)
        expected = (len(images), self.num_classes, *images.shape[2:])
        if logits.shape != expected:
            name = type(self.network).__name__
            raise UserError(
                f"{name} returns shape {tuple(logits.shape)}; logits must be {expected}, one of each class."
            )
        return logits

    def loss(self, logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``(B, num_classes, H, W)``; masks are ``(B, H, W)`` int64."""
        logits, has_class = logits.float(), masks != IGNORED
        entropy = F.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="sum")
        entropy = entropy / has_class.sum().clamp_min(1)
        if not self.dice:
            return entropy
        true = F.one_hot(masks.where(has_class, self.num_classes), self.num_classes + 1)[..., :-1]
        true = true.movedim(3, 1).float()  # (B, num_classes, H, W), zero where a pixel has no class
        predicted = logits.softmax(dim=1) * has_class[:, None]
        both, each = (of.sum(dim=(0, 2, 3)) for of in (true * predicted, true + predicted))
        return entropy + self.dice * (1 - (2 * both + 1) / (each + 1)).mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        images, masks = batch  # (B, C, H, W) float, (B, H, W) int64
        loss = self.loss(self(images), masks, self.loss_weights)
        whole_epoch: Any = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images), **whole_epoch)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured on the validation data."""
        self._log_metrics("val", self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log what was measured on the test data."""
        self._log_metrics("test", self.test_metrics)

    def _evaluate(self, batch: tuple[Tensor, Tensor], metrics: Any) -> Tensor:
        images, masks = batch
        logits = self(images)
        predicted = logits.argmax(dim=1)
        metrics["loss"].update(self.loss(logits, masks), weight=len(images))
        metrics["counts"].update(predicted, masks)
        return predicted.byte()  # (B, H, W), for callbacks

    def _log_metrics(self, split: str, metrics: Any) -> None:
        counts, loss = metrics["counts"].compute(), metrics["loss"].compute()  # over all processes
        measures = {"loss": loss, **evaluation.measure(counts)}
        if split == "test" and self.num_classes <= 24:
            names = [re.sub(r"[^\w.\- ]", "_", name) for name in self.facts["class_names"]]
            there = zip(names, evaluation.iou(counts).tolist(), strict=True)
            measures |= {f"iou_{name}": value for name, value in there if value == value}  # NaN: it is not there
        self.log_dict({f"{split}/{name}": of for name, of in measures.items()}, prog_bar=split == "val", sync_dist=True)
        for metric in metrics.values():
            metric.reset()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each image, ``(B,)``, and what `evaluation.segmented` makes of its logits."""
        return {"index": batch[1], **evaluation.segmented(self(batch[0]))}

    def rows(self, predictions: dict[str, Any], data: DataModule) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows, each with a mask as a file."""
        index, files = predictions["index"].tolist(), data.splits["predict"][0].files
        names: dict[str, list[Any]] = {"file": [str(files[i]) for i in index]} if files else {"index": index}
        others = {name: predictions[name].numpy() for name in ("mask", "confidence")}
        return reading.rows({**names, **others}, self.facts)

    show, sections = evaluation.show, evaluation.sections  # pictures for the logger, and a part of the report

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from pixels to masks."""
        return evaluation.Segmenter(self.network, self.facts)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(self.optimizer(self.parameters()), self.scheduler)
