"""Exact resume: a run that was killed, however often, ends in the state of one that never was.

What Lightning's checkpoints hold (weights, optimizer, schedule, loops, callbacks) is saved between two batches, where
all of it belongs together. Added is what Lightning leaves out. Order and randomness need no saving: they are functions
of the seed, the epoch and the batch (`loaders.ExactLoaders`).
"""

from __future__ import annotations

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
from pytorch_lightning.callbacks import Callback, GradientAccumulationScheduler, StochasticWeightAveraging, Timer
from torch import Tensor

from .. import contract
from ..errors import DivergedError, UserError
from ..runs import Run
from ..runs.options import flat
from ..training import loggers
from . import checkpoint_files, checkpoint_state, differences, signals

# Lightning's callbacks that prepare an epoch when it begins, and not where a run goes on within one.
PREPARING = (GradientAccumulationScheduler, StochasticWeightAveraging)


class ExactResume(Callback):
    """Save the state every so many steps, and when a signal asks to stop; end a training that has diverged.

    Args:
        run: The run; None saves nothing.
        every_n_steps: Optimizer steps between two saves.
        options: The run's options, which are saved with the state.
        new: Whether the run is a new one.
        accept: Go on even with other data.

    Raises:
        UserError: A run is resumed with another number of processes, what is saved could not be loaded again, or the
            loss is not finite.
    """

    def __init__(
        self, run: Run | None, every_n_steps: int, options: Mapping[str, Any], new: bool, accept: bool
    ) -> None:
        if every_n_steps < 1:
            raise UserError(f"save_every_n_steps is {every_n_steps}; it must be at least 1 step.")
        self.run, self.new, self.accept = run, new, accept
        self.folder = run.checkpoints if run is not None else None
        self.every_n_steps = every_n_steps
        self.options = options
        self.saved_at: int | None = None  # step of this process's latest save; None if it had nothing left to train
        self._state: dict[str, Any] = {}  # what Lightning leaves out, while a save is under way
        self._restored: dict[str, Any] = {}
        self._results: dict[str, dict[str, Tensor]] = {}  # of the epoch's first part, to be added to its second
        self._data: str | None = None  # their fingerprint
        self._agreement: Any = None
        self._bad_step: Tensor | None = None
        self._lossless: bool | None = None  # whether no batch has given a loss; None before the first batch

    # ---- Saving

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save the state each ``every_n_steps`` steps, and stop if a signal asks for it."""
        loop = trainer.fit_loop.epoch_loop
        if "step" in self._restored:
            self._correct_progress(trainer, pl_module)
        if batch_idx % trainer.accumulate_grad_batches or trainer.fit_loop._skip_backward:
            return  # gradients that are still being summed are in no checkpoint, nor is SWA's pass for batch statistics
        signum = self._requested()
        steps = trainer.global_step
        if signum or self.saved_at is None or steps - self.saved_at >= self.every_n_steps:
            self._refuse_divergence(trainer, pl_module)
            # "the last batch" is known as soon as it is fetched; a resume would take it for trained
            is_last, loop.batch_progress.is_last_batch = loop.batch_progress.is_last_batch, False
            self.save(trainer, pl_module, validation=loop.val_loop.batch_progress.state_dict())
            loop.batch_progress.is_last_batch = is_last
        if signum:
            raise signals.Stopped(signum)

    def save(self, trainer: Any, pl_module: pl.LightningModule, **progress: Any) -> None:
        """Save the state, with progress that Lightning would lose; every process has to call this."""
        if self.folder is None:
            return
        first, self.saved_at = self.saved_at is None, trainer.global_step
        for logger in trainer.loggers:
            getattr(logger, "flush", logger.save)()  # else a kill would lose rows of steps that are not taken again
        # a resumed run may raise max_time
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
        time_is_up = any((timer.time_remaining() or 1) <= 0 for timer in timers)
        self._state = {
            "world_size": trainer.world_size,
            "step": trainer.fit_loop.epoch_loop._batches_that_stepped,
            "data": self._data,
            "options": json.dumps(flat(self.options)),
            "ended": trainer.should_stop and not time_is_up,
            "ranks": checkpoint_state.of_all_ranks(trainer, pl_module, self._results),
            **progress,
        }
        file = self.folder / checkpoint_files.LAST
        trainer.save_checkpoint(file, weights_only=False)
        self._state = {}
        if first and trainer.is_global_zero:
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
        """Write paths relative to the run's folder."""
        if (folder := self.folder) is not None:  # which may be moved, renamed or copied

            def relative(path: str) -> str:
                return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path

            _change_paths(checkpoint, relative)

    # ---- Going on

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make paths of the run's folder absolute again."""
        if (folder := self.folder) is not None:
            _change_paths(checkpoint, lambda path: str(folder / path) if path else path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the training starts."""
        self._restored = dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Restore the state, and refuse another number of processes or other data."""
        signals.defer()
        if self.run and trainer.is_global_zero:
            for half_written in (*self.run.checkpoints.glob(".*.tmp"), *self.run.folder.glob(".run.json.*.tmp")):
                half_written.unlink(missing_ok=True)
            for half_made in self.run.folder.parent.glob(".*.tmp"):  # a young one may be a run that begins now
                with suppress(FileNotFoundError):
                    if time.time() - half_made.stat().st_mtime > 3600:
                        shutil.rmtree(half_made, ignore_errors=True)
        if trainer.world_size > 1:
            # messages between CPUs: a GPU would have to be waited for
            self._agreement = torch.distributed.new_group(backend="gloo")
        before = self._restored.get("world_size", trainer.world_size)
        if before != trainer.world_size:
            raise UserError(
                f"the run was trained by {before} processes, and now there are {trainer.world_size}. A resumed"
                " run keeps their number, for each has its share of the data."
            )
        self.compare_data(trainer, pl_module)
        if self._restored.get("ended"):
            trainer.should_stop = True  # as early stopping had it
        if "ranks" in self._restored:
            state = self._restored["ranks"][trainer.global_rank]
            self._results = state["results"]
            checkpoint_state.restore(trainer, pl_module, state)

    def compare_data(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Record the version of the data, and refuse to go on with other data than those of the checkpoint."""
        if self.run is None:
            return
        if trainer.is_global_zero:
            tell = contract.get("fingerprint", trainer.datamodule, pl_module)
            self._data = differences.fingerprint(tell, trainer.fit_loop._combined_loader.flattened)
        self._data = trainer.strategy.broadcast(self._data)
        before = self._restored.get("data")
        if before and self._data and not self.new:
            name = "the fingerprint of the data"
            differences.refuse(self.run, {name: before}, {name: self._data}, self.accept)
        if trainer.is_global_zero:
            self.run.update(fingerprint=self._data)
            if self.new:
                loggers.log_options(trainer.loggers, flat(self.options) | {"fingerprint": self._data})

    def _correct_progress(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Bring Lightning's counters to what they were; it takes a stop between two batches for one within a batch."""
        fit_loop = trainer.fit_loop
        loop = fit_loop.epoch_loop
        loop._batches_that_stepped = self._restored.pop("step")
        loop.batch_progress.total.ready = loop.batch_progress.total.started + 1
        if "validation" in self._restored:
            # where validation would be due before a batch, such as an epoch's first, it was counted without being done
            loop.val_loop.batch_progress.load_state_dict(self._restored.pop("validation"))
            rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
            for callback in trainer.callbacks:
                if isinstance(callback, PREPARING):
                    callback.on_train_epoch_start(trainer, pl_module)
            for optimizer, lrs in zip(trainer.optimizers, rates, strict=True):  # a new schedule has set its first ones
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = lr
        fit_loop._restarting = False  # else this epoch's end would leave out the schedules that follow a metric

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
        """Forget the results from before the stop, and refuse divergence, and that there is nothing to learn from."""
        self._results = {}
        if self._lossless and pl_module.automatic_optimization:
            raise UserError(
                f"{type(pl_module).__name__}.training_step returns no loss, so nothing is learned. Return it."
            )
        self._refuse_divergence(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state if a signal came after the last batch."""
        signum = self._requested()  # one that came after the last batch: there is nothing left to train
        signals.immediate()
        if signum:
            self.save(trainer, pl_module)
            raise signals.Stopped(signum)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals act at once again."""
        signals.immediate()

    def _requested(self) -> int | None:
        """The signal that any of the processes was sent; all of them stop at the same batch."""
        signum = signals.requested()
        if self._agreement is None:
            return signum
        asked = torch.tensor([signum or 0])
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._agreement)
        return int(asked.item()) or None

    # ---- Divergence

    def _watch(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any) -> None:
        """Note the first step whose loss is not finite."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._lossless = self._lossless is not False and loss is None
        if not isinstance(loss, Tensor) or trainer.precision == "16-mixed":  # which leaves out such steps by itself
            return
        if loss.device.type == "cpu" and self._agreement is None:
            if not math.isfinite(loss.item()):
                self._bad_step = torch.tensor(trainer.global_step)
                self._refuse_divergence(trainer, pl_module)
            return
        # Without waiting for the device. Looked at before the next save and the next validation, at the same batch by
        # all processes, for the average of the gradients makes the weights of all of them infinite.
        now = torch.where(loss.isfinite(), -1, trainer.global_step)
        self._bad_step = now if self._bad_step is None else torch.where(self._bad_step < 0, now, self._bad_step)

    def _refuse_divergence(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [name for name, parameter in pl_module.named_parameters() if not parameter.isfinite().all()]
        step = -1 if self._bad_step is None else int(self._bad_step.item())
        if step < 0 and not names:
            return
        what = f"the loss is not finite at step {step}" if step >= 0 else "a weight is not finite"
        where = f"{names[0]} is the first" if names else "all parameters are finite: look at the batch"
        at = f"(epoch {trainer.current_epoch}, batch {trainer.fit_loop.epoch_loop.batch_idx})"
        if 0 <= step <= 1:
            raise DivergedError(f"{what} {at}, before anything was learned: look for NaN in its inputs and targets.")
        raise DivergedError(
            f"{what} {at}: the training has diverged; {where}. The last finite checkpoint is kept. Try a lower learning"
            " rate."
        )


def _change_paths(checkpoint: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change the paths in the states of all ModelCheckpoints."""
    for state in checkpoint.get("callbacks", {}).values():
        if isinstance(state, dict) and "best_k_models" in state:
            for name in ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path"):
                state[name] = change(state[name])
            state["best_k_models"] = {change(path): score for path, score in state["best_k_models"].items()}
