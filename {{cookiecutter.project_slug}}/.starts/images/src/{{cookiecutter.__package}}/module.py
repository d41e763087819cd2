"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from lightning_runs.errors import UserError
from lightning_runs.reports.predictions import table
from lightning_runs.training import finetuning
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassF1Score

from . import evaluation
from .data import DataModule
from .pretrained import Pretrained


class ImageClassifier(pl.LightningModule):
    """Classify images with any network, optimizer and learning-rate schedule.

    Logs ``train/loss_step`` and ``train/accuracy_step`` of single batches, every ``trainer.log_every_n_steps`` steps;
    ``train/loss``, the mean over all batches of an epoch; and ``loss``, ``accuracy`` and ``f1`` of ``val`` and ``test``
    over the whole split. Accuracy is the fraction of all images that are classified correctly (micro average); F1 is
    the mean over the classes of the harmonic mean of precision and recall (macro average); loss is the mean
    cross-entropy per image, in nats. Of a mixed image the larger part counts as its class.

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
        facts: What an exported model has to know, ``mean`` and ``std`` of the images among it; taken from the data.

    Raises:
        UserError: The network does not take ``input_shape`` and ``num_classes``, or its output does not fit.
    """

    headline = ("accuracy", "max", "%")
    loss_weights: Tensor | None = None  # of the classes in training, as the data has them

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
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters()
        try:
            inspect.signature(network).bind(input_shape, num_classes)
        except TypeError as error:
            name = getattr(network, "__name__", "network")
            raise UserError(
                f"model.network is {name}, which does not take input_shape and num_classes. Write a function that does,"
                f" such as: def build(input_shape, num_classes): return {name}(num_classes=num_classes)"
            ) from error
        self.network = network(input_shape, num_classes)
        self.num_classes, self.facts = num_classes, facts or {}
        self.optimizer, self.scheduler, self.scheduler_interval = optimizer, scheduler, scheduler_interval
        self.label_smoothing, self.layer_rate_decay = label_smoothing, layer_rate_decay
        if isinstance(self.network, Pretrained):
            self.network.set_pixels(self.facts["mean"], self.facts["std"])
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            # In place, unlike `torch.compile(network)`, which would put "_orig_mod." into every checkpoint key.
            self.network.compile()
        self.train_loss = SumMetric()  # of an epoch's batches; it is saved in the midst of an epoch too
        self.f1 = nn.ModuleDict({part: MulticlassF1Score(num_classes, validate_args=False) for part in ("val", "test")})

    @property
    def backbone(self) -> Any:
        """The pretrained part of the network, as Lightning's BackboneFinetuning wants it."""
        return self.network.backbone

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output, in the groups that fine-tuning unfreezes one by one."""
        made = getattr(self.network, "layer_groups", None)
        return made() if made else [[layer] for layer in self.network.children()]

    def on_fit_start(self) -> None:
        """Move the weights of the classes to the device, and read pretrained weights."""
        weights = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        self.loss_weights = None if weights is None else weights.to(self.device, self.dtype)
        if self.trainer.ckpt_path is None and isinstance(self.network, Pretrained) and self.network.weights:
            if isinstance(self.trainer.strategy, FSDPStrategy):  # which has cut the layers up by now
                raise UserError(
                    "pretrained weights can't be read with the strategy fsdp. Choose --trainer.strategy ddp, or begin"
                    " at random with --model.network.init_args.weights null."
                )
            self.network.load_weights()  # a run that goes on has them in its checkpoint

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes)``."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.network(images)
        if logits.shape[1:] != (self.num_classes,):
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
            largest = labels if labels.ndim == 1 else labels.argmax(dim=1)
            self.log("train/accuracy_step", (logits.argmax(dim=1) == largest).float().mean())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        images, labels = batch
        logits = self(images)
        accuracy, f1 = (logits.argmax(dim=1) == labels).float().mean(), cast(Any, self.f1[split])
        f1.update(logits, labels)
        metrics = {f"{split}/loss": F.cross_entropy(logits, labels), f"{split}/accuracy": accuracy, f"{split}/f1": f1}
        self.log_dict(metrics, prog_bar=split == "val", batch_size=len(labels), sync_dist=True)
        return logits  # (B, num_classes), for callbacks

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each image, ``(B,)``, and ``probabilities`` of all classes, ``(B, num_classes)``."""
        images, index = batch
        return {"index": index, "probabilities": self(images).float().softmax(dim=1)}

    def rows(self, predictions: dict[str, Tensor], data: DataModule) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        index, files = predictions["index"].tolist(), data.predicted_files
        names: dict[str, list[Any]] = {"file": [files[i] for i in index]} if files else {"index": index}
        return table({**names, "probabilities": predictions["probabilities"].tolist()}, data.class_names)

    def show(self, outputs: list[Tensor], batch: tuple[Tensor, Tensor], data: DataModule) -> dict[str, Any]:
        """Return pictures for the logger: the first images with their predicted classes."""
        images, labels = data.denormalize(batch[0][:16]).cpu(), batch[1][:16].cpu()
        return {"examples": evaluation.draw_examples(images, labels, outputs[0][:16].argmax(dim=1), data.class_names)}

    def sections(self, predictions: dict[str, Tensor], data: DataModule) -> list[tuple[str, Callable[[], str]]]:
        """Return sections of the report: titles, with functions that return HTML."""
        return evaluation.sections(predictions["index"], predictions["probabilities"], data)

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from pixels to probabilities."""
        return evaluation.Classifier(self.network, self.facts)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        optimizer = finetuning.optimizer(self.optimizer, self, self.layer_rate_decay)
        return configured(optimizer, self.scheduler, self.scheduler_interval)
