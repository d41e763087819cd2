"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from . import evaluation
from .data import DataModule
from .runtime import finetune
from .runtime.errors import UserError
from .runtime.predictions import table
from .runtime.schedule import configured


class TextClassifier(pl.LightningModule):
    """Classify texts with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over an epoch, and over the whole split ``val/loss``, ``val/accuracy``, ``val/f1``,
    ``test/loss``, ``test/accuracy`` and ``test/f1``. Accuracy is the fraction of all texts whose class is right; F1 is
    the mean over the classes (macro average); the loss is the mean cross-entropy per text, in nats.

    Args:
        vocabulary_size: Number of different tokens; taken from the data.
        num_classes: Number of classes; taken from the data.
        network: Called with ``vocabulary_size`` and ``num_classes``, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule, which advances after every step; null
            keeps the rate constant.
        label_smoothing: Fraction of the target spread evenly over all classes in training, 0 to 1.
        layer_rate_decay: Learning rate of each group of layers as a fraction of the next one's towards the output; 1
            gives all the same.
        facts: What an exported model has to know, its tokenizer among it; taken from the data.

    Raises:
        UserError: The network's output does not fit.
    """

    headline = ("accuracy", "max", "%")

    def __init__(
        self,
        vocabulary_size: int,
        num_classes: int,
        network: Callable[[int, int], nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        label_smoothing: float = 0.0,
        layer_rate_decay: float = 1.0,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not the whole vocabulary
        self.facts, self.num_classes = facts or {}, num_classes
        self.network = network(vocabulary_size, num_classes)
        self.optimizer, self.scheduler = optimizer, scheduler
        self.label_smoothing, self.layer_rate_decay = label_smoothing, layer_rate_decay
        self.metrics = nn.ModuleDict({"val_": self._metrics(), "test_": self._metrics()})

    def _metrics(self) -> nn.ModuleDict:
        accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.num_classes, average="macro", validate_args=False)
        return nn.ModuleDict({"loss": MeanMetric(nan_strategy="ignore"), "accuracy": accuracy, "f1": f1})

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the layers from the input to the output, in the groups that fine-tuning unfreezes one by one."""
        made = getattr(self.network, "layer_groups", None)
        return made() if made else [[layer] for layer in self.network.children()]

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
        tokens, labels = batch  # (B, L) int64, (B,) int64
        loss = F.cross_entropy(self(tokens), labels, label_smoothing=self.label_smoothing)
        whole_epoch: Any = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels), **whole_epoch)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._log("test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        tokens, labels = batch
        logits, metrics = self(tokens).float(), self._of(split)
        metrics["loss"].update(F.cross_entropy(logits, labels), weight=len(labels))
        metrics["accuracy"].update(logits, labels)
        metrics["f1"].update(logits, labels)
        return logits  # (B, num_classes), for callbacks

    def _of(self, split: str) -> Any:
        return self.metrics[f"{split}_"]

    def _log(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": metric for name, metric in self._of(split).items()}, prog_bar=split == "val")

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
        return configured(finetune.optimizer(self.optimizer, self, self.layer_rate_decay), self.scheduler)
