"""Exact resume: a run that was killed, however often, ends in the state of one that never was.

Lightning's state is saved between two batches, where all of it belongs together, and with what Lightning leaves out.
Order and randomness are functions of the seed, the epoch and the batch (`loaders.ExactLoaders`), so they need no state.
"""

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning import callbacks
from pytorch_lightning.plugins import DoublePrecision
from torch import Tensor

from .. import contract
from ..errors import DivergedError, UserError
from ..runs import Run
from ..runs.options import flat
from ..training import loggers
from . import checkpoint_files, checkpoint_state, differences, signals
from .loaders import ExactLoaders

# Callbacks of Lightning that prepare an epoch when it begins, but not when a run is resumed within one.
EPOCH_CALLBACKS = (callbacks.GradientAccumulationScheduler, callbacks.StochasticWeightAveraging)
REFUSED = {  # callbacks, and what to do instead
    callbacks.ModelPruning: "prune the trained model with torch.nn.utils.prune",
    callbacks.LearningRateFinder: "give fit the rate that lr_find suggests",
    callbacks.BatchSizeFinder: "set --data.batch_size yourself",
}


class Start(NamedTuple):
    """Where a training begins."""

    run: Run | None  # None saves nothing
    options: Mapping[str, Any]  # are saved with the state
    seed: int
    position: checkpoint_files.Position
    checkpoint: Path | None  # that the position is read from
    new: bool


class ExactResume(callbacks.Callback):
    """Save the whole state every so many steps and when a signal asks to stop; continue a killed training exactly.

    ::

        seed_everything(7, workers=True)
        resume = ExactResume("runs/a", every_n_steps=200)
        trainer = Trainer(callbacks=[resume], logger=CSVLogger("logs"))
        resume.fit(trainer, model, data)  # or trainer.fit(model, data, ckpt_path=resume.checkpoint)

    Args:
        folder: The folder of the run. It is made at the first start, and locked.
        every_n_steps: Optimizer steps between two saves.
        accept_changes: Continue even with other data.

    Attributes:
        checkpoint: The file that the training continues from; None at the first start.

    Raises:
        UserError: Seed, processes or data are not those of the run, its state can't be loaded, another process trains
            it, or the loss is not finite.
    """

    def __init__(self, folder: str | Path | Start, every_n_steps: int = 200, accept_changes: bool = False) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps is {every_n_steps}; it must be at least 1 step.")
        self.is_alone = not isinstance(folder, Start)  # without the command line, which records how the run goes
        start = folder if isinstance(folder, Start) else _start_in(Path(folder).absolute(), accept_changes)
        run, options, seed, self.position, self.checkpoint, new = start
        self.loaders = ExactLoaders(seed, self.position[:2], run)
        files = map(Path, run.record.get("csv_files", ()) if run is not None else ())
        self.rows = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
        self.signals = ExitStack()
        self.run = run
        self.every_n_steps = every_n_steps
        self.options = options
        self.new = new
        self.accept = accept_changes
        self.folder = Path() if run is None else run.checkpoints
        self.saved_at: int | None = None  # step of this process's latest save; None if it had nothing left to train
        self._state: dict[str, Any] = {}  # the state that Lightning leaves out, during a save
        self._restored: dict[str, Any] = {}
        self._results: dict[str, dict[str, Tensor]] = {}  # of the epoch's first part, to be added to its second
        self._fingerprint: str | None = None  # of the data
        self._signal_group: Any = None  # the processes, which agree on a signal
        self._loss_check: Tensor | float = 0.0  # NaN once a loss was not finite
        self._has_loss: bool | None = None  # whether any batch has given a loss; None before the first batch

    def fit(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Train as ``trainer.fit`` with these arguments, from ``checkpoint``; each logger continues its own run."""
        if self not in trainer.callbacks:
            trainer.callbacks.append(self)
        if self.run is not None:
            loggers.prepare(trainer.loggers, self.run, self.position.step)
        trainer.fit(*args, **kwargs, ckpt_path=self.checkpoint)

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        """Have checkpoints written whole, into the run; without the command line, set up all that it sets up."""
        if self.is_alone and stage == "fit":
            if not isinstance(trainer, pl.Trainer):
                raise UserError("the Trainer is not that of pytorch_lightning. Import this package; it is the same.")
            if self.saved_at is not None or self.run is None:
                raise UserError("this ExactResume has done a training. Make a new one for each training.")
            refuse_callbacks(trainer.callbacks)
            if trainer.fast_dev_run:  # which keeps nothing
                self.run.unlock()
                self.run = None
        checkpoints = [callback for callback in trainer.callbacks if isinstance(callback, callbacks.ModelCheckpoint)]
        self.saves_weights_only = bool(checkpoints) and all(one.save_weights_only for one in checkpoints)
        for callback in checkpoints:
            callback.save_weights_only = False  # else no callback adds its part: averaged weights, changed attributes
            if callback.dirpath is None:
                callback.dirpath = None if self.run is None else str(self.folder)
                callback.save_last = False  # `last.ckpt` there belongs to the resume
            # a resumed run writes again what it had written after its last save, and leaves no second version
            callback._enable_version_counter = False
        if stage != "fit":
            return
        trainer.strategy.checkpoint_io = checkpoint_files.AtomicCheckpointIO()
        if isinstance(trainer.precision_plugin, DoublePrecision):
            # Lightning loads a checkpoint before it does this, and would round the weights to float32
            trainer.precision_plugin.convert_module(pl_module)
        if self.is_alone:
            others = [callback for callback in trainer.callbacks if callback is not self]
            # before others log or count the next batch
            trainer.callbacks = [checkpoint_state.AttributeState(), self, self.loaders, *others]
            self.loaders.setup(trainer, pl_module, stage)
            if trainer.is_global_zero and self.run is not None:
                loggers.continue_runs(trainer.loggers, self.run, self.position.step, self.rows)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
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
        if self.run is None:
            return
        is_first = self.saved_at is None
        self.saved_at = trainer.global_step
        for logger in trainer.loggers:
            getattr(logger, "flush", logger.save)()  # else a kill would lose rows of steps that are not repeated
        timers = [callback for callback in trainer.callbacks if isinstance(callback, callbacks.Timer)]
        time_is_up = any((timer.time_remaining() or 1) <= 0 for timer in timers)  # a resumed run may raise max_time
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
                kinds = "Keep only numbers, texts, lists, dicts and tensors in hyperparameters and states of callbacks."
                raise UserError(f"this run could not be resumed: {error} {kinds}") from error

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write paths relative to the run's folder, which may be moved, and no optimizer where none is wanted."""
        folder = self.folder
        if self.saves_weights_only and not self._state:  # the file of a ModelCheckpoint
            del checkpoint["optimizer_states"]
        if self.run is not None:
            _change_paths(
                checkpoint, lambda path: os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path
            )

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        _change_paths(checkpoint, lambda path: str(self.folder / path) if path else path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the training starts."""
        self._restored = dict(state_dict)

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Restore the state, and refuse another number of processes or other data."""
        if self.is_alone and self.checkpoint is not None and not self._restored:
            text = f"the training in {self.folder.parent} has begun before. Continue it with resume.fit(trainer, …),"
            raise UserError(f"{text} or trainer.fit(…, ckpt_path=resume.checkpoint).")
        if self.is_alone and self.run is not None:
            self.signals.enter_context(signals.handled())
            if trainer.is_global_zero:
                self.run.begin(self.run.record.get("command", shlex.join(["python", *sys.argv])))
        signals.defer()
        if self.run is not None and trainer.is_global_zero:
            for file in self.folder.glob(".*.tmp"):  # of processes that were killed while they saved
                file.unlink(missing_ok=True)
        if trainer.world_size > 1:
            # messages between CPUs: each step would have to wait for a GPU
            self._signal_group = torch.distributed.new_group(backend="gloo")
        before = self._restored.get("world_size", trainer.world_size)
        if before != trainer.world_size:
            text = f"the run was trained by {before} processes, and now there are {trainer.world_size}."
            raise UserError(f"{text} A resumed run keeps their number, because each has its share of the data.")
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
                with suppress(AttributeError, NotImplementedError, TypeError):  # of a stream, which has no number
                    items = sum(len(loader.dataset) for loader in trainer.fit_loop._combined_loader.flattened)
                    self._fingerprint = f"{items} items"
        self._fingerprint = trainer.strategy.broadcast(self._fingerprint)
        before = self._restored.get("data")
        if before and self._fingerprint and not self.new:
            name = "the fingerprint of the data"
            differences.refuse(self.run, {name: before}, {name: self._fingerprint}, self.accept)
        if trainer.is_global_zero:
            monitor = trainer.checkpoint_callback
            metric = getattr(monitor, "monitor", None)
            self.run.update(fingerprint=self._fingerprint, metric=metric, mode=getattr(monitor, "mode", None))
            if self.new and not self.is_alone:
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

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the results from before the stop, and look at the loss without waiting for a GPU or another process."""
        if self._results:
            checkpoint_state.add_results(trainer, self._results)
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._has_loss = bool(self._has_loss) or loss is not None
        if not isinstance(loss, Tensor) or trainer.precision == "16-mixed":  # its scaler skips such steps
            return
        if loss.device.type == "cpu" and self._signal_group is None:
            self._loss_check += 0 * loss.item()
            if self._loss_check != 0:
                self._refuse_divergence(trainer, pl_module)
        else:  # all processes notice it before the next save or validation, because they average the gradients
            self._loss_check = self._loss_check + 0 * loss.detach()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse divergence before a checkpoint is written by what is measured now."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._refuse_divergence(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the results from before the stop, and refuse divergence and an epoch without a loss."""
        self._results = {}
        if self._has_loss is False and pl_module.automatic_optimization:
            raise UserError(f"{type(pl_module).__name__}.training_step returns no loss. Return the loss.")
        self._refuse_divergence(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state if a signal came after the last batch."""
        signum = self._requested()
        signals.immediate()
        if signum:
            self.save(trainer, pl_module)
            raise signals.Stopped(signum)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Without the command line, save the end, so that a further start has nothing to do."""
        if self.is_alone and self.saved_at is not None:
            self.save(trainer, pl_module)
        self._end(trainer, "finished")

    def on_exception(self, trainer: Any, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end(trainer, "failed" if isinstance(exception, Exception) else "interrupted")

    def _end(self, trainer: Any, status: str) -> None:
        if self.is_alone and self.run is not None:
            if trainer.is_global_zero:
                self.run.end(status)
            self.signals.close()
            self.run.unlock()

    def _requested(self) -> int | None:
        """Return the signal that any of the processes has received; all of them stop at the same batch."""
        signum = signals.requested()
        if self._signal_group is None:
            return signum
        received = torch.tensor([signum or 0])
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX, group=self._signal_group)
        return int(received.item()) or None

    def _refuse_divergence(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = [name for name, parameter in pl_module.named_parameters() if not parameter.isfinite().all()]
        if self._loss_check == 0 and not names:
            return
        what = names[0] if self._loss_check == 0 else "the loss"
        text = f"{what} is NaN or infinite after step {trainer.global_step} (epoch {trainer.current_epoch})."
        raise DivergedError(f"{text} The checkpoint before it is kept. Look for NaN in the data, or lower the rate.")


def refuse_callbacks(given: Sequence[Any]) -> None:
    """Refuse callbacks by which a run could not be resumed or repeated."""
    for callback in given:
        for kind, instead in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"{kind.__name__} makes a run that can't be resumed. Leave it out, and {instead}.")


def _start_in(folder: Path, accept_changes: bool) -> Start:
    """Lock the folder of a plain script's training, and return where the training begins."""
    if "PL_GLOBAL_SEED" not in os.environ:
        raise UserError("ExactResume needs a seed. Call seed_everything(7, workers=True) before all else.")
    seed = int(os.environ["PL_GLOBAL_SEED"])
    run = Run(folder)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    if getattr(rank_zero_only, "rank", 0) == 0:
        run.lock()
    found = checkpoint_files.newest_readable(run.checkpoints)
    if found is None:
        return Start(run, {"seed": seed}, seed, checkpoint_files.Position(), None, True)
    file, checkpoint = found
    differences.refuse(run, differences.options_of(run, checkpoint), {"seed": seed}, accept_changes)
    return Start(run, {"seed": seed}, seed, checkpoint_files.position(file, checkpoint), file, False)


def _change_paths(checkpoint: dict[str, Any], change: Callable[[str], str]) -> None:
    for state in checkpoint.get("callbacks", {}).values():
        if isinstance(state, dict) and "best_k_models" in state:
            for name in ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path"):
                state[name] = change(state[name])
            state["best_k_models"] = {change(path): score for path, score in state["best_k_models"].items()}
