"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_runs.errors import UserError
from lightning_runs.reports.predictions import table
from lightning_runs.training import finetuning
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from . import evaluation
from .data import DataModule
from .pretrained import PretrainedEncoder


class TextClassifier(pl.LightningModule):
    """Classify texts with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over an epoch, and over the whole split ``loss``, ``accuracy`` and ``f1`` of ``val``
    and ``test``. Accuracy is the fraction of all texts whose class is right; F1 is the mean over the classes of the
    harmonic mean of precision and recall (macro average); loss is the mean cross-entropy per text, in nats.

    Args:
        vocabulary_size: Number of different tokens; taken from the data.
        num_classes: Number of classes; taken from the data.
        network: Called with ``vocabulary_size`` and ``num_classes``, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule, which advances after every step; null
            keeps the rate constant.
        layer_rate_decay: Learning rate of each group of layers as a fraction of the next one's towards the output; 1
            gives all the same.
        facts: What an exported model has to know, its tokenizer among it, as JSON; taken from the data.

    Raises:
        UserError: The network's output does not fit.
    """

    headline = ("accuracy", "max", "%")
    loss_weights: Tensor | None = None  # of the classes in training, as the data has them

    def __init__(
        self,
        vocabulary_size: int,
        num_classes: int,
        network: Callable[[int, int], nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        layer_rate_decay: float = 1.0,
        facts: str = "{}",
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not the whole vocabulary
        self.facts, self.num_classes = json.loads(facts), num_classes
        self.network = network(vocabulary_size, num_classes)
        if isinstance(self.network, PretrainedEncoder):
            self.network.build(self.facts.get("encoder"))
        self.optimizer, self.scheduler, self.layer_rate_decay = optimizer, scheduler, layer_rate_decay
        self.val_metrics, self.test_metrics = self._metrics(), self._metrics()

    def _metrics(self) -> Any:
        accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.num_classes, validate_args=False)
        return nn.ModuleDict({"loss": MeanMetric(nan_strategy="ignore"), "accuracy": accuracy, "f1": f1})

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output, in the groups that fine-tuning unfreezes one by one."""
        made = getattr(self.network, "layer_groups", None)
        return made() if made else [[layer] for layer in self.network.children()]

    def on_fit_start(self) -> None:
        """Move the weights of the classes to the device, and read pretrained weights."""
        weights = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        self.loss_weights = None if weights is None else weights.to(self.device, self.dtype)
        if self.trainer.ckpt_path is None and isinstance(self.network, PretrainedEncoder):
            self.network.load_weights()  # a run that goes on has them in its checkpoint

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        logits = self.network(tokens)
        if logits.shape[1:] != (self.num_classes,):
            raise UserError(
                f"the network's output is {tuple(logits.shape)}, but there are {self.num_classes} classes. Let its last"
                " layer have num_classes outputs, such as nn.Linear(features, num_classes)."
            )
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        tokens, labels = batch  # (B, L) int64, (B,) int64
        loss = F.cross_entropy(self(tokens), labels, self.loss_weights)
        whole_epoch: Any = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), **whole_epoch)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch."""
        return self._evaluate(batch, "val", self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch."""
        return self._evaluate(batch, "test", self.test_metrics)

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str, metrics: Any) -> Tensor:
        tokens, labels = batch
        logits = self(tokens).float()
        metrics["loss"].update(F.cross_entropy(logits, labels), weight=len(labels))
        for name in ("accuracy", "f1"):
            metrics[name].update(logits, labels)
        self.log_dict({f"{split}/{name}": metric for name, metric in metrics.items()}, prog_bar=split == "val")
        return logits  # (B, num_classes), for callbacks

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each text, ``(B,)``, and ``probabilities`` of all classes, ``(B, num_classes)``."""
        tokens, index = batch
        return {"index": index, "probabilities": self(tokens).float().softmax(dim=1)}

    def rows(self, predictions: dict[str, Tensor], data: DataModule) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        names = [data.row_names[i] for i in predictions["index"].tolist()]
        return table({"file": names, "probabilities": predictions["probabilities"].tolist()}, data.class_names)

    show, sections = evaluation.show, evaluation.sections  # pictures for the logger, and a part of the report

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from tokens to probabilities."""
        return evaluation.Classifier(self)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(finetuning.optimizer(self.optimizer, self, self.layer_rate_decay), self.scheduler)
