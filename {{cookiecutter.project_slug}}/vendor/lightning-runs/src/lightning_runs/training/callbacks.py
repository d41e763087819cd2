"""Callbacks that every run has, those with options of their own, and two that ``configs/default.yaml`` lists."""

import math
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from .. import contract
from ..errors import UserError
from ..runs import Run
from . import loggers
from .schedules import WarmupCosine

# With these options of ModelCheckpoint, a resume or a test would look for checkpoints in the wrong place.
FIXED_OPTIONS = {"dirpath", "save_last", "enable_version_counter"}


def add_callback_options(parser: Any) -> None:
    """Add the options of the callbacks that each run has once: ``--checkpoint.…`` and ``--early_stopping.…``."""
    parser.add_class_arguments(ModelCheckpoint, "checkpoint", fail_untyped=False, skip=FIXED_OPTIONS)
    parser.add_argument("--early_stopping.monitor", type=str | None, default=None)
    parser.add_class_arguments(callbacks.EarlyStopping, "early_stopping", fail_untyped=False, skip={"monitor"})
    parser.set_defaults({"checkpoint.filename": "epoch={epoch:03d}-step={step}"})
    parser.set_defaults({"checkpoint.auto_insert_metric_name": False})


def configured_callbacks(options: Any, others: list[Any]) -> list[Any]:
    """Return the callbacks with options of their own, followed by the others, those of the list ``trainer.callbacks``.

    Without a monitor, early stopping is off, and a ModelCheckpoint of the list replaces the one with options.
    """
    found = []
    replaced = not options.checkpoint.monitor and any(isinstance(callback, ModelCheckpoint) for callback in others)
    if options.trainer.enable_checkpointing is not False and not replaced:
        found.append(options.checkpoint)
    if options.early_stopping.monitor:
        found.append(options.early_stopping)
    return [*found, *others]


class ScheduleLength(Callback):
    """Fit schedules to the length of the training and to its validations."""

    def on_fit_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Set the length of schedules that have none, and refuse one that is too short."""
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if isinstance(scheduler, WarmupCosine) and scheduler.total_steps is None:
                scheduler.set_total_steps(trainer.estimated_stepping_batches)
            if isinstance(scheduler, OneCycleLR):
                steps = trainer.estimated_stepping_batches if config.interval == "step" else trainer.max_epochs
                if scheduler.total_steps < steps // config.frequency:
                    text = f"OneCycleLR has total_steps {scheduler.total_steps}, but this training steps it"
                    raise UserError(f"{text} {steps // config.frequency} times. Set total_steps to that number.")
            if config.reduce_on_plateau and is_of_validation(trainer, config.monitor):
                # its metric is new after a validation alone
                between = trainer.check_val_every_n_epoch or 1
                config.frequency = between * math.ceil(config.frequency / between)
                config.strict = False


class AverageCorrection(Callback):
    """Have Lightning's weight averaging measure and save the weights that are tested later."""

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave out weight averaging where nothing is trained."""
        if stage != "fit":
            # checkpoints hold averaged weights; after a training the callback would replace them by the latest ones
            trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, WeightAveraging)]

    def on_validation_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Let an average that has not begun be the current weights."""
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging) and not callback._average_model.n_averaged:  # pyright: ignore
                callback._average_model.module.load_state_dict(pl_module.state_dict())  # pyright: ignore

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.on_validation_start(trainer, pl_module)


class MonitorCheck(Callback):
    """Check that callbacks and schedules monitor metrics that are logged, and that a checkpoint has its own metric."""

    _validated_at: int | None = None  # the step of the latest validation

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Refuse checkpoints that are saved before or between the validations that choose them, and no validation."""
        if trainer.enable_validation and trainer.val_dataloaders is not None and not sum(trainer.num_val_batches):
            for owner, metric in missing_monitors(trainer):
                raise UserError(f"{owner} monitors {metric}, which is not logged: val_dataloader yields no batch.")
        self._check_checkpoints(trainer)

    def _check_checkpoints(self, trainer: Any) -> None:
        for callback in validation_checkpoints(trainer):
            option = ""
            if callback._every_n_train_steps or callback._train_time_interval is not None:
                option = "every_n_train_steps" if callback._every_n_train_steps else "train_time_interval"
            elif callback._save_on_train_epoch_end and trainer.val_check_batch != trainer.num_training_batches:
                option = "save_on_train_epoch_end"
            if option:
                text = f"checkpoint.{option} saves at other steps than the validations that log {callback.monitor}."
                raise UserError(f"{text} Leave it null: each validation then saves.")
            callback._save_on_train_epoch_end = False  # hooks at the end of the epoch may change the weights

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Refuse a monitor that the first validation did not log."""
        if trainer.sanity_checking or trainer.state.fn != "fit":  # a module may log less in the sanity check
            return
        for owner, metric in missing_monitors(trainer) if self._validated_at is None else ():
            logged = [name for name in trainer.callback_metrics if not name.startswith(("train", "lr-"))]
            hint = f"Choose one of {', '.join(logged)}." if logged else "validation_step calls no self.log."
            raise UserError(f"{owner} monitors {metric}, which is not logged. {hint}")
        if self._validated_at is None:  # the metrics of the validation are known now
            self._check_checkpoints(trainer)
        self._validated_at = trainer.global_step

    def on_train_epoch_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Let early stopping wait for a validation."""
        for one in trainer.callbacks if self._validated_at is None else ():
            if isinstance(one, callbacks.EarlyStopping) and one.strict and is_of_validation(trainer, one.monitor):
                one.strict = False
                text = f"there was no validation, so early stopping has no {one.monitor} to compare."
                warnings.warn(f"{text} Data without an end need --trainer.val_check_interval N.", stacklevel=1)


def validation_checkpoints(trainer: Any) -> list[Any]:
    """Return the ModelCheckpoints that monitor a metric of the validation, if there are validations."""
    found = [callback for callback in trainer.callbacks if isinstance(callback, ModelCheckpoint)]
    return [one for one in found if trainer.enable_validation and is_of_validation(trainer, one.monitor)]


def is_of_validation(trainer: Any, metric: Any) -> bool:
    """Return whether a metric has a validation's name, or was logged in one, such as in the sanity check."""
    results = trainer.fit_loop.epoch_loop.val_loop._results.values()
    return "val" in str(metric) or metric in {result.meta.name for result in results}


def missing_monitors(trainer: Any) -> list[tuple[str, str]]:
    """Return the callbacks and schedules that monitor a validation metric that is not logged, each with the metric."""
    owners = [*trainer.callbacks, *trainer.lr_scheduler_configs]
    monitors = [(getattr(owner, "scheduler", owner), getattr(owner, "monitor", None)) for owner in owners]
    return [
        (type(owner).__name__, metric)
        for owner, metric in monitors
        if isinstance(metric, str) and is_of_validation(trainer, metric) and metric not in trainer.callback_metrics
    ]


def count_items(batch: Any, loader: Any, batch_idx: int) -> int:
    """Return the number of items of a batch, by the indices of its loader or else by the batch; 0 if both lack it."""
    with suppress(AttributeError, IndexError):  # Lightning notes the indices to predict
        return len(loader.batch_sampler.seen_batch_indices[batch_idx])
    with suppress(AttributeError, TypeError):  # another iterable, or one that has no length
        return min(loader.batch_size, len(loader.sampler) - batch_idx % len(loader) * loader.batch_size)
    parts = list(batch.values()) if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else [batch]
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), 0)


class Throughput(Callback):
    """Record in ``run.json``, after each epoch, their number, all items, and the seconds of training alone."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._items = 0
        self._seconds = 0.0
        self._started = 0.0  # by the clock, which stands still during validation

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, which the sanity check may have stopped."""
        self._seconds = 0.0
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the items of the batch, or of the batch of each of several loaders."""
        loaders = trainer.fit_loop._combined_loader.flattened
        batches = batch.values() if isinstance(batch, dict) else batch
        for part, loader in zip(batches if len(loaders) > 1 else [batch], loaders, strict=False):
            self._items += 0 if part is None else count_items(part, loader, batch_idx)

    def state_dict(self) -> dict[str, Any]:
        return {"items": self._items}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._items = state_dict["items"]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds += time.perf_counter() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = self._seconds + time.perf_counter() - self._started
        items = trainer.strategy.reduce(torch.tensor(self._items, device=pl_module.device), reduce_op="sum")
        self._items = 0
        self._seconds = 0.0
        self._started = time.perf_counter()
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
        self._batch: Any = None  # the first one

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        if not trainer.sanity_checking and trainer.current_epoch % self.every_n_epochs == 0:
            self.on_test_batch_end(trainer, pl_module, outputs, batch)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        if contract.get("show", pl_module) is not None:
            self._outputs.append(outputs)  # stays on the device: moving it would make every batch wait
            self._batch = batch if self._batch is None else self._batch

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module, "val", f"val_epoch_{trainer.current_epoch:03d}")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer, pl_module, "test", "test")

    def _log(self, trainer: Any, pl_module: pl.LightningModule, split: str, stem: str) -> None:
        outputs = self._outputs
        batch = self._batch
        self._outputs = []
        self._batch = None
        if not outputs or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        pictures = contract.get("show", pl_module)(outputs, batch, getattr(trainer, "datamodule", None))
        for name, picture in pictures.items():
            logged = [loggers.log_picture(logger, f"{split}/{name}", picture, trainer) for logger in trainer.loggers]
            if not any(logged):
                folder = Path(trainer.default_root_dir) / "images"
                folder.mkdir(parents=True, exist_ok=True)
                picture.save(folder / f"{stem}_{name}.png")
