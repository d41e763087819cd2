"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, MeanSquaredError, R2Score
from torchmetrics.classification import MulticlassAccuracy

from . import evaluation
from .data import DataModule
from .runtime.predictions import table

NetworkCallable = Callable[[int, list[int], int], nn.Module]


class TableModel(pl.LightningModule):
    """Learn a column of a table, a class or a number, with any network, optimizer and learning-rate schedule.

    Logs ``train/loss``, the mean over an epoch, and over the whole split
    ``val/loss`` and ``test/loss``, with ``accuracy`` for classes, or ``rmse`` and ``r2`` for a number. Accuracy is the
    fraction of all rows whose class is right. The loss is the mean cross-entropy per row, in nats, or the mean squared
    error of the standardised number. The root mean squared error is in the target's own unit; R² is 1 at best, and 0
    for a model that always gives the mean.

    Args:
        num_numbers: Numbers of a row; taken from the data.
        vocabulary_sizes: Number of words of each column of words; taken from the data.
        num_outputs: Number of classes, or 1 for a number; taken from the data.
        network: Called with the three above, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule, which advances after every step; null
            keeps the rate constant.
        facts: What is known of columns and target; taken from the data.
    """

    def __init__(
        self,
        num_numbers: int,
        vocabulary_sizes: list[int],
        num_outputs: int,
        network: NetworkCallable,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters(logger=False)  # which gets the options, and not what is known of 10,000 columns
        self.network = network(num_numbers, vocabulary_sizes, num_outputs)
        self.num_outputs, self.facts = num_outputs, facts or {}
        target = self.facts.get("target", {})
        self.mean, self.std = target.get("mean", 0.0), target.get("std", 1.0)  # of the number to learn
        self.headline = ("accuracy", "max", "%") if num_outputs > 1 else ("rmse", "min", "")
        self.optimizer, self.scheduler = optimizer, scheduler
        self.val_metrics, self.test_metrics = self._metrics(num_outputs), self._metrics(num_outputs)

    @staticmethod
    def _metrics(num_outputs: int) -> Any:
        loss = MeanMetric(nan_strategy="ignore")
        if num_outputs == 1:
            return nn.ModuleDict({"loss": loss, "rmse": MeanSquaredError(squared=False), "r2": R2Score()})
        accuracy = MulticlassAccuracy(num_outputs, average="micro", validate_args=False)
        return nn.ModuleDict({"loss": loss, "accuracy": accuracy})

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        """Map numbers ``(B, num_numbers)`` and words ``(B, W)`` to logits ``(B, C)``, or to numbers ``(B,)``."""
        outputs = self.network(numbers, words)
        return outputs if self.num_outputs > 1 else outputs[:, 0]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs of `forward`; targets are classes, or standardised numbers, ``(B,)``."""
        return F.cross_entropy(outputs, targets) if self.num_outputs > 1 else F.mse_loss(outputs, targets)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        numbers, words, targets = batch  # (B, num_numbers) float, (B, W) int64, (B,)
        loss = self.loss(self(numbers, words), targets)
        whole_epoch: Any = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(targets), **whole_epoch)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": metric for name, metric in self.val_metrics.items()}, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{name}": metric for name, metric in self.test_metrics.items()})

    def _evaluate(self, batch: tuple[Tensor, Tensor, Tensor], metrics: Any) -> Tensor:
        numbers, words, targets = batch
        outputs = self(numbers, words).float()
        metrics["loss"].update(self.loss(outputs, targets), weight=len(targets))
        if self.num_outputs > 1:
            metrics["accuracy"].update(outputs, targets)
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

    def show(self, outputs: list[Tensor], batch: tuple[Tensor, ...], data: DataModule) -> dict[str, Any]:
        """Return a picture for the logger, of the first batch, if Pillow is installed."""
        if find_spec("PIL") is None:
            return {}
        predicted, targets = outputs[0].cpu(), batch[2].cpu()
        if self.num_outputs > 1:
            return {"confusion": evaluation.draw(targets, predicted.argmax(dim=1), data.class_names)}
        return {"predicted_and_true": evaluation.draw(targets.float(), predicted, None)}

    def sections(self, predictions: dict[str, Tensor], data: DataModule) -> list[tuple[str, Callable[[], str]]]:
        """Return sections of the report: titles, with functions that return HTML."""
        return evaluation.sections(predictions, self, data)

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from the columns as they are read to probabilities or numbers."""
        return evaluation.Predictor(self)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):  # needs a metric that exists, and is new once per epoch
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
