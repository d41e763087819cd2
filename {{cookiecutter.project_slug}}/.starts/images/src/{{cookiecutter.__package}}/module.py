"""The LightningModule: batch -> loss -> logged metrics."""

from collections.abc import Callable
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from lightning_runs.errors import UserError
from lightning_runs.images.classifier import ImageReports
from lightning_runs.images.pretrained import Pretrained
from lightning_runs.training import finetuning
from lightning_runs.training.pretrained import FineTuningHooks
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassF1Score


class ImageClassifier(ImageReports, FineTuningHooks, pl.LightningModule):
    """Classify images with any network, optimizer and learning-rate schedule.

    Logs ``train/loss_step`` and ``train/accuracy_step`` of single batches, every ``trainer.log_every_n_steps`` steps;
    ``train/loss``, the mean over all batches of an epoch; and ``loss``, ``accuracy`` and ``f1`` of ``val`` and ``test``
    over the whole split. Accuracy is the fraction of all images that are classified correctly (micro average); F1 is
    the mean over the classes of the harmonic mean of precision and recall (macro average); loss is the mean
    cross-entropy per image, in nats. The larger part of a mixed image counts as its class.

    Args:
        input_shape: Channels, height and width of an image; taken from the data.
        num_classes: Number of classes; taken from the data.
        network: Called with ``input_shape`` and ``num_classes``, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule; null keeps the rate constant.
        scheduler_interval: Whether the schedule advances after every optimizer step or after every epoch.
        label_smoothing: Fraction of the target spread evenly over all classes in training, 0 to 1.
        layer_rate_decay: Learning rate of each group of layers as a fraction of the next one's towards the output; 1
            gives all the same.
        compile: Compile the network with ``torch.compile``; worth its minute of start-up on a GPU and long runs.
        channels_last: Keep images and the weights of convolutions in memory with the channels last, as tensor cores of
            GPUs take them.
        facts: Facts of an exported model, ``mean`` and ``std`` of the images among them; taken from the data.
        loss_weights: The weight of each class in the training loss; taken from the data.

    Raises:
        UserError: The output of the network does not fit.
    """

    headline = ("accuracy", "max", "%")  # the metric that counts
    loss_weights: Tensor | None

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        network: Callable[[tuple[int, int, int], int], nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
        label_smoothing: float = 0.0,
        layer_rate_decay: float = 1.0,
        compile: bool = False,
        channels_last: bool = False,
        facts: dict[str, Any] | None = None,
        loss_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.facts = facts or {}
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.label_smoothing = label_smoothing
        self.layer_rate_decay = layer_rate_decay
        self.network = network(input_shape, num_classes)
        if isinstance(self.network, Pretrained):
            self.network.set_pixels(self.facts["mean"], self.facts["std"])
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            # In place, unlike `torch.compile(network)`, which would put "_orig_mod." into every checkpoint key.
            self.network.compile()
        weights = None if loss_weights is None else torch.tensor(loss_weights)
        self.register_buffer("loss_weights", weights, persistent=False)  # moves to the device with the model
        self.train_loss = SumMetric()  # of an epoch's batches; it is saved within an epoch too
        self.f1 = nn.ModuleDict({part: MulticlassF1Score(num_classes, validate_args=False) for part in ("val", "test")})

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.network(images)
        if logits.shape != (len(images), self.num_classes):
            raise UserError(
                f"the network's output is {tuple(logits.shape)}, but there are {self.num_classes} classes. Let its last"
                " layer have num_classes outputs, such as nn.Linear(features, num_classes)."
            )
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        images, labels = batch  # (B, C, H, W) float; (B,) int64, or (B, num_classes) float where they are mixed
        logits = self(images)
        loss = F.cross_entropy(logits, labels, weight=self.loss_weights, label_smoothing=self.label_smoothing)
        # `self.log`, and `update` of a metric, take as long as a small network's step.
        self.train_loss.sum_value.add_(loss.detach())
        if self.trainer.is_last_batch:
            mean = self.train_loss.sum_value / (batch_idx + 1)
            self.log("train/loss", mean, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True)
            self.train_loss.reset()
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            self.log("train/loss_step", loss)
            classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
            self.log("train/accuracy_step", (logits.argmax(dim=1) == classes).float().mean())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch, and return its logits ``(B, num_classes)`` for callbacks."""
        return self.evaluation_step(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch, and return its logits ``(B, num_classes)`` for callbacks."""
        return self.evaluation_step(batch, "test")

    def evaluation_step(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        """Measure a batch of ``val`` or ``test``, and return its logits."""
        images, labels = batch
        logits = self(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        f1 = cast(Any, self.f1[split])
        f1.update(logits, labels)
        metrics = {f"{split}/loss": F.cross_entropy(logits, labels), f"{split}/accuracy": accuracy, f"{split}/f1": f1}
        self.log_dict(metrics, prog_bar=split == "val", batch_size=len(labels), sync_dist=True)
        return logits

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each image, ``(B,)``, and ``probabilities`` of all classes, ``(B, num_classes)``."""
        images, index = batch
        return {"index": index, "probabilities": self(images).float().softmax(dim=1)}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        optimizer = finetuning.optimizer(self.optimizer, self, self.layer_rate_decay)
        return configured(optimizer, self.scheduler, self.scheduler_interval)
