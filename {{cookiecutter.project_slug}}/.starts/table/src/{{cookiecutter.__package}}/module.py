"""The LightningModule: batch -> loss -> logged metrics."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_runs.tables.reports import ExportedTableModel, TableReports
from lightning_runs.training.schedules import configured
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MeanSquaredError, R2Score
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from .network import Standardize

Batch = tuple[Tensor, Tensor, Tensor]  # numbers (B, num_numbers) float, words (B, W) int64, targets (B,)


class TableModel(TableReports, pl.LightningModule):
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
        loss_weights: The weight of each class in the loss of training; taken from the data.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        network: Callable[[int, list[int], int], nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        loss_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not what is known of 10,000 columns
        self.facts = facts
        self.num_classes = len(facts["class_names"])  # 0 for a number
        self.headline = ("accuracy", "max", "%") if self.num_classes else ("rmse", "min", "")
        columns = Standardize(facts["columns"])
        self.network = network(columns.num_numbers, columns.vocabulary_sizes, self.num_classes or 1)
        self.optimizer = optimizer
        self.scheduler = scheduler
        weights = None if loss_weights is None else torch.tensor(loss_weights)
        self.register_buffer("loss_weights", weights, persistent=False)  # moves to the device with the model
        self.train_loss = MeanMetric()  # of an epoch's batches; as a metric, it is saved within an epoch too
        self.val_metrics = self._metrics()
        self.test_metrics = self._metrics()

    def _metrics(self) -> Any:
        loss = MeanMetric(nan_strategy="ignore")
        if not self.num_classes:
            return nn.ModuleDict({"loss": loss, "rmse": MeanSquaredError(squared=False), "r2": R2Score()})
        accuracy = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.num_classes, validate_args=False)
        return nn.ModuleDict({"loss": loss, "accuracy": accuracy, "f1": f1})

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        """Map numbers ``(B, num_numbers)`` and words ``(B, W)`` to logits ``(B, C)``, or to numbers ``(B,)``."""
        outputs = self.network(numbers, words)
        return outputs if self.num_classes else outputs[:, 0]

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
        """Measure a validation batch; return its outputs for callbacks."""
        return self.measure(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation rows."""
        self.log_dict({f"val/{name}": metric for name, metric in self.val_metrics.items()}, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Measure a test batch; return its outputs for callbacks."""
        return self.measure(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test rows."""
        self.log_dict({f"test/{name}": metric for name, metric in self.test_metrics.items()})

    def shared_step(self, batch: Batch, weights: Any = None) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and the outputs of `forward`."""
        numbers, words, targets = batch
        outputs = self(numbers, words).float()
        targets = targets.repeat_interleave(len(outputs) // len(targets))  # in training, each member has outputs
        loss = F.cross_entropy(outputs, targets, weights) if self.num_classes else F.mse_loss(outputs, targets)
        return loss, outputs

    def measure(self, batch: Batch, metrics: Any) -> Tensor:
        """Update metrics by a batch, and return its outputs."""
        loss, outputs = self.shared_step(batch)
        _, _, targets = batch
        metrics["loss"].update(loss, weight=len(targets))
        if self.num_classes:
            metrics["accuracy"].update(outputs, targets)
            metrics["f1"].update(outputs, targets)
        else:
            std = self.facts["std"]  # for an error in the unit of the target
            metrics["rmse"].update(outputs * std, targets.float() * std)
            metrics["r2"].update(outputs, targets.float())
        return outputs

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """Return the ``index`` of each row, ``(B,)``, with ``probabilities`` ``(B, C)``, or ``prediction`` ``(B,)``."""
        _, numbers, words, index = batch
        outputs = self(numbers, words).float()
        if self.num_classes:
            return {"index": index, "probabilities": outputs.softmax(dim=1)}
        return {"index": index, "prediction": outputs * self.facts["std"] + self.facts["mean"]}

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from the columns as they are read to probabilities or numbers."""
        return ExportedTableModel(Standardize(self.facts["columns"]), self.network, self.facts)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        return configured(self.optimizer(self.parameters()), self.scheduler)
