"""The LightningModule: batch -> loss -> logged metrics."""

import json
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_runs.errors import UserError
from lightning_runs.texts.pretrained import PretrainedEncoder
from lightning_runs.texts.reports import TextReports
from lightning_runs.training import finetuning
from lightning_runs.training.pretrained import FineTuningHooks
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

Batch = tuple[Tensor, Tensor]  # tokens (B, L) int64, labels (B,) int64


class TextClassifier(TextReports, FineTuningHooks, pl.LightningModule):
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
        loss_weights: The weight of each class in the loss of training; taken from the data.

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
        layer_rate_decay: float = 1.0,
        facts: str = "{}",
        loss_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not the whole vocabulary
        self.facts = json.loads(facts)
        self.num_classes = num_classes
        self.network = network(vocabulary_size, num_classes)
        if isinstance(self.network, PretrainedEncoder):
            self.network.build(self.facts.get("encoder"))
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.layer_rate_decay = layer_rate_decay
        weights = None if loss_weights is None else torch.tensor(loss_weights)
        self.register_buffer("loss_weights", weights, persistent=False)  # moves to the device with the model
        self.train_loss = MeanMetric()  # of an epoch's batches; as a metric, it is saved within an epoch too
        self.val_metrics = self._metrics()
        self.test_metrics = self._metrics()

    def _metrics(self) -> Any:
        loss = MeanMetric(nan_strategy="ignore")
        accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.num_classes, validate_args=False)
        return nn.ModuleDict({"loss": loss, "accuracy": accuracy, "f1": f1})

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(B, L)`` to logits ``(B, num_classes)``."""
        logits = self.network(tokens)
        if logits.shape[1:] != (self.num_classes,):
            raise UserError(
                f"the network's output is {tuple(logits.shape)}, but there are {self.num_classes} classes. Let its last"
                " layer have num_classes outputs, such as nn.Linear(features, num_classes)."
            )
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        loss, _ = self.shared_step(batch, self.loss_weights)
        self.train_loss.mean_value.add_(loss.detach())  # `self.log`, and `update`, take much longer
        self.train_loss.weight.add_(1)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch's batches."""
        mean = self.train_loss.mean_value / self.train_loss.weight
        self.log("train/loss", mean, prog_bar=True, sync_dist=True)
        self.train_loss.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Measure a validation batch; return its logits for callbacks."""
        return self.measure(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation texts."""
        self.log_dict({f"val/{name}": metric for name, metric in self.val_metrics.items()}, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Measure a test batch; return its logits for callbacks."""
        return self.measure(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test texts."""
        self.log_dict({f"test/{name}": metric for name, metric in self.test_metrics.items()})

    def shared_step(self, batch: Batch, weights: Any = None) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its logits ``(B, num_classes)``."""
        tokens, labels = batch
        logits = self(tokens).float()
        return F.cross_entropy(logits, labels, weights), logits

    def measure(self, batch: Batch, metrics: Any) -> Tensor:
        """Update metrics by a batch, and return its logits."""
        loss, logits = self.shared_step(batch)
        _, labels = batch
        metrics["loss"].update(loss, weight=len(labels))
        metrics["accuracy"].update(logits, labels)
        metrics["f1"].update(logits, labels)
        return logits

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each text, ``(B,)``, and ``probabilities`` of all classes, ``(B, num_classes)``."""
        tokens, index = batch
        return {"index": index, "probabilities": self(tokens).float().softmax(dim=1)}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(finetuning.optimizer(self.optimizer, self, self.layer_rate_decay), self.scheduler)
