"""The LightningModule: batch -> loss -> logged metrics."""

import re
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_runs.errors import UserError
from lightning_runs.masks.metrics import IGNORED, class_iou, dice_loss, mask_metrics
from lightning_runs.masks.segmentation import MaskReports, predicted_masks
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix


class SegmentationModel(MaskReports, pl.LightningModule):
    """Predict the class of each pixel with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over all batches of an epoch, and over the whole split ``val/loss``, ``val/mean_iou``,
    ``val/f1``, ``val/accuracy`` and the same of ``test``; of up to 24 classes also ``test/iou_NAME``. IoU of a class is
    its correct pixels over those that are of it or predicted as it, in all images together; mean_iou and f1 are means
    over the classes that occur. Accuracy is the fraction of correct pixels. Pixels without a class count nowhere. The
    loss of a batch is the mean cross-entropy of its pixels, in nats, plus ``dice`` times the Dice loss.

    Args:
        input_shape: Channels, height and width of an image; taken from the data.
        facts: Facts of images and masks, ``class_names`` among them; taken from the data.
        network: Called with ``input_shape`` and the number of classes, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule; null keeps the rate constant.
        dice: Weight of the Dice loss (https://arxiv.org/abs/1606.04797), which counts each class alike, 0 or more.
        compile: Compile the network with ``torch.compile``; worth its minute of start-up on a GPU and long runs.
        channels_last: Keep images and the weights of convolutions in memory with the channels last, which is faster.
        loss_weights: The weight of each class in the training loss; taken from the data.

    Raises:
        UserError: ``dice`` is negative, or the output of the network does not fit.
    """

    headline = ("mean_iou", "max", "%")  # the metric that counts
    loss_weights: Tensor | None

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
        loss_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        if not dice >= 0:
            raise UserError(f"model.dice is {dice}; it must be 0 or more, such as 0.5.")
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters()
        self.facts = facts
        self.num_classes = len(facts["class_names"])
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.dice = dice
        self.network = network(input_shape, self.num_classes)
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            self.network.compile()  # in place: `torch.compile(network)` would put "_orig_mod." into checkpoint keys
        weights = None if loss_weights is None else torch.tensor(loss_weights)
        self.register_buffer("loss_weights", weights, persistent=False)  # moves to the device with the model
        self.val_metrics = self._metrics()
        self.test_metrics = self._metrics()

    def _metrics(self) -> Any:
        counts = MulticlassConfusionMatrix(self.num_classes, ignore_index=IGNORED, validate_args=False)
        return nn.ModuleDict({"loss": MeanMetric(nan_strategy="ignore"), "counts": counts})

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes, H, W)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.network(images)
        expected = (len(images), self.num_classes, *images.shape[2:])
        if logits.shape != expected:
            name = type(self.network).__name__
            raise UserError(f"the output of {name} has the shape {tuple(logits.shape)}; logits must be {expected}.")
        return logits

    def loss(self, logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``(B, num_classes, H, W)``; masks are ``(B, H, W)`` int64."""
        logits = logits.float()
        num_pixels = (masks != IGNORED).sum().clamp_min(1)
        entropy = F.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="sum") / num_pixels
        return entropy + self.dice * dice_loss(logits, masks) if self.dice else entropy

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        images, masks = batch  # (B, C, H, W) float, (B, H, W) int64
        loss = self.loss(self(images), masks, self.loss_weights)
        self.log(
            "train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images), sync_dist=True
        )
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch, and return its predicted classes ``(B, H, W)``, uint8, for callbacks."""
        return self.evaluation_step(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation data."""
        self._log_metrics("val", self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch, and return its predicted classes ``(B, H, W)``, uint8, for callbacks."""
        return self.evaluation_step(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test data."""
        self._log_metrics("test", self.test_metrics)

    def evaluation_step(self, batch: tuple[Tensor, Tensor], metrics: Any) -> Tensor:
        """Measure a batch, and return its predicted classes."""
        images, masks = batch
        logits = self(images)
        predicted = logits.argmax(dim=1)
        metrics["loss"].update(self.loss(logits, masks), weight=len(images))
        metrics["counts"].update(predicted, masks)
        return predicted.byte()

    def _log_metrics(self, split: str, metrics: Any) -> None:
        counts = metrics["counts"].compute()  # over all processes
        values = {"loss": metrics["loss"].compute(), **mask_metrics(counts)}
        if split == "test" and self.num_classes <= 24:
            names = [re.sub(r"[^\w.\- ]", "_", name) for name in self.facts["class_names"]]
            ious = zip(names, class_iou(counts), strict=True)
            values |= {f"iou_{name}": iou for name, iou in ious if not iou.isnan()}  # of classes without pixels
        values = {f"{split}/{name}": value for name, value in values.items()}
        self.log_dict(values, prog_bar=split == "val", sync_dist=True)
        for metric in metrics.values():
            metric.reset()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each image, ``(B,)``, its ``mask`` ``(B, H, W)`` and ``confidence`` ``(B,)``."""
        images, index = batch
        return {"index": index, **predicted_masks(self(images))}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(self.optimizer(self.parameters()), self.scheduler)
