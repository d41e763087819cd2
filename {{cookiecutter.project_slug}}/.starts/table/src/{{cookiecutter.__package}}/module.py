"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_runs.reports.predictions import table
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MeanSquaredError, R2Score
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from . import evaluation
from .data import DataModule
from .network import Standardize

NetworkCallable = Callable[[int, list[int], int], nn.Module]


class TableModel(pl.LightningModule):
    """Learn a column of a table, a class or a number, with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over an epoch, and over the whole split ``val/loss`` and ``test/loss``, with
    ``accuracy`` and ``f1`` for classes, or ``rmse`` and ``r2`` for a number. Accuracy is the fraction of all rows whose
    class is right; F1 is the mean over the classes of the harmonic mean of precision and recall. The loss is the mean
    cross-entropy per row, in nats, or the mean squared error of the standardised number. The root mean squared error is
    in the target's own unit; R² is 1 at best, and 0 for a model that always gives the mean.

    Args:
        facts: What is known of columns and target; taken from the data.
        network: Called with the count of numbers, the sizes of vocabularies and the count of outputs, returns the
            network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule, which advances after every step; null
            keeps the rate constant.
    """

    loss_weights: Tensor | None = None  # of the classes in training, as the data has them

    def __init__(
        self,
        facts: dict[str, Any],
        network: NetworkCallable,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not what is known of 10,000 columns
        columns, target = Standardize(facts["columns"]), facts["target"]
        self.facts, self.num_outputs = facts, len(target.get("class_names", [""]))
        self.mean, self.std = target.get("mean", 0.0), target.get("std", 1.0)  # of the number to learn
        self.network = network(columns.num_numbers, columns.vocabulary_sizes, self.num_outputs)
        self.headline = ("accuracy", "max", "%") if self.num_outputs > 1 else ("rmse", "min", "")
        self.optimizer, self.scheduler = optimizer, scheduler
        self.val_metrics, self.test_metrics = self._metrics(), self._metrics()

    def _metrics(self) -> Any:
        loss = MeanMetric(nan_strategy="ignore")
        if self.num_outputs == 1:
            return nn.ModuleDict({"loss": loss, "rmse": MeanSquaredError(squared=False), "r2": R2Score()})
        accuracy = MulticlassAccuracy(self.num_outputs, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.num_outputs, validate_args=False)
        return nn.ModuleDict({"loss": loss, "accuracy": accuracy, "f1": f1})

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        """Map numbers ``(B, num_numbers)`` and words ``(B, W)`` to logits ``(B, C)``, or to numbers ``(B,)``."""
        outputs = self.network(numbers, words)
        return outputs if self.num_outputs > 1 else outputs[:, 0]

    def on_fit_start(self) -> None:
        """Move the weights of the classes to the device."""
        weights = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        self.loss_weights = None if weights is None else weights.to(self.device, self.dtype)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of outputs of `forward`; targets are classes, or standardised numbers, ``(B,)``."""
        return F.cross_entropy(outputs, targets, weights) if self.num_outputs > 1 else F.mse_loss(outputs, targets)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it."""
        numbers, words, targets = batch  # (B, num_numbers) float, (B, W) int64, (B,)
        outputs = self(numbers, words)  # of each row, or of each member of an ensemble for each row
        loss = self.loss(outputs, targets.repeat_interleave(len(outputs) // len(targets)), self.loss_weights)
        whole_epoch: Any = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(targets), **whole_epoch)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a validation batch."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured on the validation data."""
        self.log_dict({f"val/{name}": metric for name, metric in self.val_metrics.items()}, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log what was measured on the test data."""
        self.log_dict({f"test/{name}": metric for name, metric in self.test_metrics.items()})

    def _evaluate(self, batch: tuple[Tensor, Tensor, Tensor], metrics: Any) -> Tensor:
        numbers, words, targets = batch
        outputs = self(numbers, words).float()
        metrics["loss"].update(self.loss(outputs, targets), weight=len(targets))
        if self.num_outputs > 1:
            metrics["accuracy"].update(outputs, targets)
            metrics["f1"].update(outputs, targets)
        else:
            metrics["rmse"].update(outputs * self.std, targets.float() * self.std)  # in the unit of the target
            metrics["r2"].update(outputs, targets.float())
        return outputs  # (B, C) or (B,), for callbacks

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each row, ``(B,)``, with ``probabilities`` ``(B, C)``, or ``prediction`` ``(B,)``."""
        _, index, numbers, words = batch
        outputs = self(numbers, words).float()
        if self.num_outputs > 1:
            return {"index": index, "probabilities": outputs.softmax(dim=1)}
        return {"index": index, "prediction": outputs * self.std + self.mean}

    def rows(self, predictions: dict[str, Tensor], data: DataModule) -> tuple[list[str], list[list[Any]]]:
        """Return the table that ``predict`` writes: names of its columns, and its rows."""
        columns = {name: column.tolist() for name, column in predictions.items()}
        names = {"file": [data.row_names[i] for i in columns.pop("index")]}
        return table({**names, **columns}, data.class_names)

    show, sections = evaluation.show, evaluation.sections  # pictures for the logger, and a part of the report

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from the columns as they are read to probabilities or numbers."""
        return evaluation.Predictor(self)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(self.optimizer(self.parameters()), self.scheduler)
