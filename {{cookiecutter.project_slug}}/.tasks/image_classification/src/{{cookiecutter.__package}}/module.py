"""The LightningModule: batch -> loss -> logged metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from . import evaluation
from .data import DataModule
from .runtime.predictions import table
from .runtime.schedule import WarmupCosine

NetworkCallable = Callable[[tuple[int, int, int], int], nn.Module]


class ImageClassifier(pl.LightningModule):
    """Classify images with any network, optimizer and learning-rate schedule.

    Logs ``train/loss`` and ``train/accuracy`` of single batches, every ``trainer.log_every_n_steps`` steps, and
    ``val/loss``, ``val/accuracy``, ``test/loss`` and ``test/accuracy`` over the whole split. Accuracy is the fraction
    of all images that are classified correctly (micro average); loss is the mean cross-entropy per image, in nats.

    Args:
        input_shape: Channels, height and width of an image; taken from the data.
        num_classes: Number of classes; taken from the data.
        network: Called with ``input_shape`` and ``num_classes``, returns the network.
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns the learning-rate schedule; null keeps the rate constant.
        scheduler_interval: Whether the schedule advances after every optimizer step or after every epoch.
        label_smoothing: Fraction of the target spread evenly over all classes in training, 0 to 1.
        compile: Compile the network with ``torch.compile``; worth its minute of start-up on a GPU and long runs.
        facts: What an exported model has to know, ``mean`` and ``std`` of the images among it; taken from the data.
    """

    headline = ("accuracy", "max", "%")

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        network: NetworkCallable,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
        label_smoothing: float = 0.0,
        compile: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # Under LightningCLI these are the options as plain values, so a checkpoint loads without this call's arguments.
        self.save_hyperparameters()
        self.network = network(input_shape, num_classes)
        self.facts = facts or {}
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.label_smoothing = label_smoothing
        self.compile_network = compile
        self.val_metrics = self._metrics(num_classes)
        self.test_metrics = self._metrics(num_classes)

    @staticmethod
    def _metrics(num_classes: int) -> Any:
        accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        return nn.ModuleDict({"loss": MeanMetric(nan_strategy="ignore"), "accuracy": accuracy})

    def setup(self, stage: str) -> None:
        if self.compile_network:
            # In place, unlike `torch.compile(network)`, which would put "_orig_mod." into every checkpoint key.
            self.network.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes)``."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch  # (B, C, H, W) float, (B,) int64
        logits = self(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        # A call of `self.log` costs more than a small network's step, so only steps that are written make one.
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue] set outside of __init__
        if (self.global_step + 1) % every == 0:
            accuracy = (logits.argmax(dim=1) == labels).float().mean()
            self.log("train/loss", loss, prog_bar=True)
            self.log("train/accuracy", accuracy)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": metric for name, metric in self.val_metrics.items()}, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{name}": metric for name, metric in self.test_metrics.items()})

    def _evaluate(self, batch: tuple[Tensor, Tensor], metrics: Any) -> Tensor:
        images, labels = batch
        logits = self(images)
        metrics["loss"].update(F.cross_entropy(logits, labels), weight=len(labels))
        metrics["accuracy"].update(logits, labels)
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
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, WarmupCosine) and scheduler.total_steps is None:
            scheduler.set_total_steps(self.trainer.estimated_stepping_batches)
        config = {"scheduler": scheduler, "interval": self.scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):  # needs a metric that exists, and is new once per epoch
            config |= {"interval": "epoch", "monitor": scheduler.monitor}
        return {"optimizer": optimizer, "lr_scheduler": config}
