"""Exact resume: a run that was killed, however often, ends in the state of one that never was.

The state of Lightning's checkpoints (weights, optimizer, schedule, loops, callbacks) is saved between two batches,
where all of it belongs together. `ExactResume` adds what Lightning leaves out. Order and randomness are not saved: they
are functions of the seed, the epoch and the batch (`loaders.ExactLoaders`).
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from torch import Tensor

from .. import contract
from ..errors import DivergedError, UserError
from ..runs import Run
from ..runs.options import flat
from ..training import loggers
from . import checkpoint_files, checkpoint_state, differences, signals
from .fingerprint import items_fingerprint

# Callbacks of Lightning that prepare an epoch when it begins, but not when a run is resumed within one.
EPOCH_CALLBACKS = (GradientAccumulationScheduler, StochasticWeightAveraging)


class ExactResume(Callback):
    """Save the state every so many steps, and when a signal asks to stop; end a training that has diverged.

    Args:
        run: The run; None saves nothing.
        every_n_steps: Optimizer steps between two saves.
        options: The run's options, which are saved with the state.
        new: Whether the run is a new one.
        accept: Resume even with other data.

    Raises:
        UserError: A run is resumed with another number of processes, the saved state could not be loaded again, or the
            loss is not finite.
    """

    def __init__(
        self, run: Run | None, every_n_steps: int, options: Mapping[str, Any], new: bool, accept: bool
    ) -> None:
        if every_n_steps < 1:
            raise UserError(f"save_every_n_steps is {every_n_steps}; it must be at least 1 step.")
        self.run = run
        self.every_n_steps = every_n_steps
        self.options = options
        self.new = new
        self.accept = accept
        self.folder = run.checkpoints if run is not None else None
        self.saved_at: int | None = None  # step of this process's latest save; None if it had nothing left to train
        self._state: dict[str, Any] = {}  # the state that Lightning leaves out, during a save
        self._restored: dict[str, Any] = {}
        self._results: dict[str, dict[str, Tensor]] = {}  # of the epoch's first part, to be added to its second
        self._fingerprint: str | None = None  # of the data
        self._signal_group: Any = None  # the processes, which agree on a signal
        self._bad_step: Tensor | None = None
        self._has_loss: bool | None = None  # whether any batch has given a loss; None before the first batch

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        """Have each ModelCheckpoint write into the run, also those of the module's ``configure_callbacks``."""
        for callback in [callback for callback in trainer.callbacks if isinstance(callback, ModelCheckpoint)]:
            if callback.dirpath is None:
                callback.dirpath = None if self.folder is None else str(self.folder)
                callback.save_last = False  # `last.ckpt` there belongs to the resume
            # a resumed run writes again what it had written after its last save, and leaves no second version
            callback._enable_version_counter = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save the state each ``every_n_steps`` steps, and stop if a signal asks for it."""
        loop = trainer.fit_loop.epoch_loop
        if "step" in self._restored:
            self._correct_progress(trainer, pl_module)
        if batch_idx % trainer.accumulate_grad_batches or trainer.fit_loop._skip_backward:
            return  # no checkpoint holds gradients that are being summed, nor SWA's pass for batch statistics
        signum = self._requested()
        steps = trainer.global_step
        if signum or self.saved_at is None or steps - self.saved_at >= self.every_n_steps:
            self._refuse_divergence(trainer, pl_module)
            # Lightning knows the last batch as soon as it is fetched; a resumed run would take it for trained
            is_last = loop.batch_progress.is_last_batch
            loop.batch_progress.is_last_batch = False
            self.save(trainer, pl_module, validation=loop.val_loop.batch_progress.state_dict())
            loop.batch_progress.is_last_batch = is_last
        if signum:
            raise signals.Stopped(signum)

    def save(self, trainer: Any, pl_module: pl.LightningModule, **progress: Any) -> None:
        """Save the state, with progress that Lightning would lose; every process has to call this."""
        if self.folder is None:
            return
        is_first = self.saved_at is None
        self.saved_at = trainer.global_step
        for logger in trainer.loggers:
            getattr(logger, "flush", logger.save)()  # else a kill would lose rows of steps that are not repeated
        # a resumed run may raise max_time
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
        time_is_up = any((timer.time_remaining() or 1) <= 0 for timer in timers)
        self._state = {
            "world_size": trainer.world_size,
            "step": trainer.fit_loop.epoch_loop._batches_that_stepped,
            "data": self._fingerprint,
            "options": json.dumps(flat(self.options)),
            "ended": trainer.should_stop and not time_is_up,
            "ranks": checkpoint_state.state_of_all_ranks(trainer, pl_module, self._results),
            **progress,
        }
        file = self.folder / checkpoint_files.LAST
        trainer.save_checkpoint(file, weights_only=False)
        self._state = {}
        if is_first and trainer.is_global_zero:
            try:
                checkpoint_files.read(file)
            except UserError as error:
                raise UserError(
                    f"this run could not be resumed: {error} Keep only numbers, texts, lists, dicts and tensors in"
                    " hyperparameters and in the state of callbacks."
                ) from error

    def state_dict(self) -> dict[str, Any]:
        """Return the state that Lightning's checkpoint lacks."""
        return self._state

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write paths relative to the run's folder, which may be moved, renamed or copied."""
        folder = self.folder
        if folder is not None:

            def relative(path: str) -> str:
                return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path

            _change_paths(checkpoint, relative)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make paths of the run's folder absolute again."""
        folder = self.folder
        if folder is not None:
            _change_paths(checkpoint, lambda path: str(folder / path) if path else path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the training starts."""
        self._restored = dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Restore the state, and refuse another number of processes or other data."""
        signals.defer()
        if self.run is not None and trainer.is_global_zero:
            _remove_temporary_files(self.run)
        if trainer.world_size > 1:
            # messages between CPUs: each step would have to wait for a GPU
            self._signal_group = torch.distributed.new_group(backend="gloo")
        before = self._restored.get("world_size", trainer.world_size)
        if before != trainer.world_size:
            raise UserError(
                f"the run was trained by {before} processes, and now there are {trainer.world_size}. A resumed run"
                " keeps their number, because each has its share of the data."
            )
        self.compare_data(trainer, pl_module)
        if self._restored.get("ended"):
            trainer.should_stop = True  # early stopping had ended it
        if "ranks" in self._restored:
            state = self._restored["ranks"][trainer.global_rank]
            self._results = state["results"]
            checkpoint_state.restore(trainer, pl_module, state)

    def compare_data(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Record the fingerprint of the data, and refuse to resume with other data than those of the checkpoint."""
        if self.run is None:
            return
        if trainer.is_global_zero:
            own = contract.get("fingerprint", trainer.datamodule, pl_module)
            if own is not None:
                self._fingerprint = str(own())
            elif not trainer.reload_dataloaders_every_n_epochs:  # else the loaders are those of this epoch
                self._fingerprint = items_fingerprint(trainer.fit_loop._combined_loader.flattened)
        self._fingerprint = trainer.strategy.broadcast(self._fingerprint)
        before = self._restored.get("data")
        if before and self._fingerprint and not self.new:
            name = "the fingerprint of the data"
            differences.refuse(self.run, {name: before}, {name: self._fingerprint}, self.accept)
        if trainer.is_global_zero:
            monitor = trainer.checkpoint_callback
            chosen_by = {"metric": getattr(monitor, "monitor", None), "mode": getattr(monitor, "mode", None)}
            self.run.update(fingerprint=self._fingerprint, **chosen_by)
            if self.new:
                loggers.log_options(trainer.loggers, flat(self.options) | {"fingerprint": self._fingerprint})

    def _correct_progress(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Restore Lightning's counters: it takes a stop between two batches for one within a batch."""
        fit_loop = trainer.fit_loop
        loop = fit_loop.epoch_loop
        loop._batches_that_stepped = self._restored.pop("step")
        loop.batch_progress.total.ready = loop.batch_progress.total.started + 1
        if "validation" in self._restored:
            # a validation that was due before this batch, such as an epoch's first, is counted but was not done
            loop.val_loop.batch_progress.load_state_dict(self._restored.pop("validation"))
            rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
            for callback in trainer.callbacks:
                if isinstance(callback, EPOCH_CALLBACKS):
                    callback.on_train_epoch_start(trainer, pl_module)
            for optimizer, lrs in zip(trainer.optimizers, rates, strict=True):  # SWA's new schedule has changed them
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = lr
        fit_loop._restarting = False  # else the end of this epoch would skip schedules that follow a metric

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the results from before the stop, and watch for divergence."""
        if self._results:
            checkpoint_state.add_results(trainer, self._results)
        self._watch(trainer, pl_module, outputs)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to validate a training that has diverged."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._refuse_divergence(trainer, pl_module)  # before a checkpoint is written by what is measured now

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the results from before the stop, and refuse divergence and an epoch without a loss."""
        self._results = {}
        if self._has_loss is False and pl_module.automatic_optimization:
            raise UserError(
                f"{type(pl_module).__name__}.training_step returns no loss, so nothing is learned. Return the loss."
            )
        self._refuse_divergence(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state if a signal came after the last batch."""
        signum = self._requested()
        signals.immediate()
        if signum:
            self.save(trainer, pl_module)
            raise signals.Stopped(signum)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals act at once again."""
        signals.immediate()

    def _requested(self) -> int | None:
        """Return the signal that any of the processes has received; all of them stop at the same batch."""
        signum = signals.requested()
        if self._signal_group is None:
            return signum
        received = torch.tensor([signum or 0])
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX, group=self._signal_group)
        return int(received.item()) or None

    def _watch(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any) -> None:
        """Note the first step whose loss is not finite."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._has_loss = bool(self._has_loss) or loss is not None
        if not isinstance(loss, Tensor) or trainer.precision == "16-mixed":  # its scaler skips such steps
            return
        if loss.device.type == "cpu" and self._signal_group is None:
            if not math.isfinite(loss.item()):
                self._bad_step = torch.tensor(trainer.global_step)
                self._refuse_divergence(trainer, pl_module)
            return
        # Without waiting for the device: all processes look at it before the next save and the next validation, where
        # the average of the gradients has made the weights of each of them infinite.
        now = torch.where(loss.isfinite(), -1, trainer.global_step)
        self._bad_step = now if self._bad_step is None else torch.where(self._bad_step < 0, now, self._bad_step)

    def _refuse_divergence(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [name for name, parameter in pl_module.named_parameters() if not parameter.isfinite().all()]
        step = -1 if self._bad_step is None else int(self._bad_step.item())
        if step < 0 and not names:
            return
        what = f"the loss is not finite at step {step}" if step >= 0 else "a weight is not finite"
        place = f"(epoch {trainer.current_epoch}, batch {trainer.fit_loop.epoch_loop.batch_idx})"
        if 0 <= step <= 1:
            raise DivergedError(f"{what} {place}, before anything was learned: look for NaN in its inputs and targets.")
        hint = f"{names[0]} is the first" if names else "all parameters are finite: look at the batch"
        raise DivergedError(
            f"{what} {place}: the training has diverged; {hint}. The last finite checkpoint is kept. Try a lower"
            " learning rate."
        )


def _remove_temporary_files(run: Run) -> None:
    """Remove files that killed processes left while they wrote, and folders of runs that they left unfinished."""
    for file in (*run.checkpoints.glob(".*.tmp"), *run.folder.glob(".run.json.*.tmp")):
        file.unlink(missing_ok=True)
    for folder in run.folder.parent.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > 3600:  # a younger one may be a run that begins now
                shutil.rmtree(folder, ignore_errors=True)


def _change_paths(checkpoint: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change the paths in the states of all ModelCheckpoints."""
    for state in checkpoint.get("callbacks", {}).values():
        if isinstance(state, dict) and "best_k_models" in state:
            for name in ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path"):
                state[name] = change(state[name])
            state["best_k_models"] = {change(path): score for path, score in state["best_k_models"].items()}
