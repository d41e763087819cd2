"""Callbacks that every run has, those with options of their own, and two that ``configs/default.yaml`` lists."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor

from .. import contract
from ..errors import UserError
from ..runs import Run
from . import loggers
from .schedules import WarmupCosine

# Not those of ModelCheckpoint by which a checkpoint would be elsewhere than a resume, or a test, looks for it.
NO_OPTIONS = {"dirpath", "save_last", "enable_version_counter"}
class EarlyStopping(callbacks.EarlyStopping):
    """End the training when a metric has not improved for some time.

    Args:
        monitor: Name of the metric; null turns early stopping off.
    """

    def __init__(self, monitor: str | None = None, **options: Any) -> None:
        super().__init__(monitor, **options)  # type: ignore[arg-type]


def add_named(parser: Any) -> None:
    """Add the options of the callbacks that each run has once: ``--checkpoint.…`` and ``--early_stopping.…``."""
    parser.add_class_arguments(ModelCheckpoint, "checkpoint", fail_untyped=False, skip=NO_OPTIONS)
    parser.add_class_arguments(EarlyStopping, "early_stopping", fail_untyped=False)
    filename = {"filename": "epoch={epoch:03d}-step={step}", "auto_insert_metric_name": False}
    parser.set_defaults({f"checkpoint.{name}": value for name, value in filename.items()})


def named(options: Any, listed: list[Any]) -> list[Any]:
    """The callbacks with options of their own, which come before those of the list ``trainer.callbacks``.

    Without a monitor, early stopping is off, and a ModelCheckpoint of the list takes the place of the one with options.

    Raises:
        UserError: The list has the same callback once more.
    """
    found = [options.early_stopping] if options.early_stopping.monitor else []
    checkpoint, others = options.checkpoint, any(isinstance(callback, ModelCheckpoint) for callback in listed)
    if options.trainer.enable_checkpointing is not False and (checkpoint.monitor or not others):
        found = [checkpoint, *found]
    for callback in found:
        if callback.state_key in (other.state_key for other in listed):
            option = "checkpoint" if callback is checkpoint else "early_stopping"
            raise UserError(
                f"{type(callback).__name__} on {callback.monitor} is given twice: by --{option}.monitor, and in the"
                f" list trainer.callbacks. Remove the one of the list, or turn the other one off:"
                f" --{option}.monitor null"
            )
    return found


class CheckCallbacks(Callback):
    """See to it that callbacks and schedules can do their work, and that the weights that are kept are tested.

    Raises:
        UserError: A callback or schedule monitors a validation metric that is not logged, before the first epoch.
    """

    _validated = False

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave out weight averaging where nothing is trained."""
        if stage != "fit":
            # checkpoints hold averaged weights; after a training this callback would put the latest ones in their place
            trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, WeightAveraging)]

    def on_fit_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Tell schedules the length of the training."""
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, WarmupCosine) and config.scheduler.total_steps is None:
                config.scheduler.set_total_steps(trainer.estimated_stepping_batches)

    def on_validation_start(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: Any = None) -> None:
        """Let an average that has not begun yet be the current weights."""
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging) and not callback._average_model.n_averaged:  # pyright: ignore
                # an average that has not begun yet would be that of the untrained weights
                callback._average_model.module.load_state_dict(pl_module.state_dict())  # pyright: ignore

    on_save_checkpoint = on_validation_start

    def on_sanity_check_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Refuse a monitor that is not logged."""
        logged = trainer.callback_metrics
        monitors = [(callback, getattr(callback, "monitor", None)) for callback in trainer.callbacks]
        monitors += [(config.scheduler, config.monitor) for config in trainer.lr_scheduler_configs]
        for monitor, metric in monitors:
            if isinstance(metric, str) and metric.startswith("val") and metric not in logged:
                name, there = type(monitor).__name__, f"Choose one of {', '.join(logged)}."
                if not logged:
                    there = "Nothing is: val_dataloader yields no batch, or validation_step calls no self.log."
                raise UserError(f"{name} monitors {metric}, which is not logged. {there}")

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Note that there was a validation."""
        self._validated = self._validated or not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Let early stopping pass where there was no validation yet."""
        unmeasured = not self._validated and [
            one
            for one in trainer.callbacks
            if isinstance(one, callbacks.EarlyStopping) and one.strict and one.monitor not in trainer.callback_metrics
        ]
        for callback in unmeasured or ():
            callback.strict = False
            text = f"there was no validation, so early stopping has no {callback.monitor} to go by."
            if math.isinf(trainer.val_check_batch):
                text += " It waits for the end of the data. Add --trainer.val_check_interval N, a number of batches."
            warnings.warn(text, stacklevel=1)


class Throughput(Callback):
    """Record in ``run.json``, after each epoch, how many there were, and the items and seconds of training alone.

    Items are those of all processes. They are counted where a batch is a tensor, or begins with one.

    Args:
        run: The run. What an earlier process has recorded of it is added to.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._items, self._seconds, self._since = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count and to measure the time."""
        self._items, self._seconds, self._since = 0, 0.0, time.perf_counter()

    on_train_start = on_train_epoch_start  # which is not called where a run goes on within an epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the items of the batch."""
        while isinstance(batch, list | tuple | dict) and batch:
            batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
        if isinstance(batch, Tensor) and batch.ndim:
            self._items += len(batch)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._seconds += time.perf_counter() - self._since

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the items per second of the epoch."""
        seconds = self._seconds + time.perf_counter() - self._since
        items = trainer.strategy.reduce(torch.tensor(self._items, device=pl_module.device), reduce_op="sum")
        if not trainer.is_global_zero:
            return
        before = self.run.record
        self.run.update(
            epochs=trainer.current_epoch + 1,
            train_seconds=round(before.get("train_seconds", 0.0) + seconds, 3),
            train_items=before.get("train_items", 0) + int(items),
        )


class Pictures(Callback):
    """Log the pictures that the LightningModule's ``show`` draws, after validation and after the test.

    They go to W&B, TensorBoard or MLflow as ``val/NAME`` and ``test/NAME``. With the csv logger or none they are PNG
    files in the run's folder, ``images/``.

    Args:
        every_n_epochs: Epochs between two logs in validation; the first epoch is always logged.
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        self.every_n_epochs = every_n_epochs
        self._outputs: list[Any] = []
        self._batch: Any = None

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Keep the outputs of each n-th epoch."""
        if not trainer.sanity_checking and trainer.current_epoch % self.every_n_epochs == 0:
            self.on_test_batch_end(trainer, *args)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the outputs, and the first batch."""
        if contract.get("show", pl_module) is not None:
            self._outputs.append(outputs)  # stays on the device: moving it would make every batch wait
            self._batch = batch if self._batch is None else self._batch

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log pictures of the validation data."""
        self._log(trainer, pl_module, "val", f"val_epoch_{trainer.current_epoch:03d}")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log pictures of the test data."""
        self._log(trainer, pl_module, "test", "test")

    def _log(self, trainer: Any, pl_module: pl.LightningModule, split: str, stem: str) -> None:
        outputs, batch, self._outputs, self._batch = self._outputs, self._batch, [], None
        if not outputs or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        try:
            pictures = contract.get("show", pl_module)(outputs, batch, getattr(trainer, "datamodule", None))
        except Exception as error:  # a picture that can't be drawn is no reason to lose a training
            warnings.warn(f"show() failed, and no picture is logged: {type(error).__name__}: {error}", stacklevel=1)
            return
        for name, picture in pictures.items():
            logged = [loggers.log_picture(logger, f"{split}/{name}", picture, trainer) for logger in trainer.loggers]
            if not any(logged):
                folder = Path(trainer.default_root_dir) / "images"
                folder.mkdir(parents=True, exist_ok=True)
                picture.save(folder / f"{stem}_{name}.png")

