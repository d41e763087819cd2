"""The training step with less of the framework around it: the same calls in the same order, the same numbers.

A small network's step takes half a millisecond, and Lightning's work for profilers, closures and empty hooks takes as
long again. `ShortLoop` skips that work in ordinary runs. All other runs, and releases of Lightning that were not
compared, have Lightning's own loop. Everything here changes one Trainer alone.
"""

import ctypes
import platform
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loops.optimization.automatic import ClosureResult
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultCollection, _ResultMetric
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

COMPARED_RELEASES = ("2.6.6",)  # of Lightning
STEP_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)
# A module that overrides one of these is trained by Lightning's loop, which calls it.
STEP_METHODS = (*STEP_HOOKS, "optimizer_step", "optimizer_zero_grad", "backward", "on_before_batch_transfer")


@dataclass
class SpeedOptions:
    """Options that make training faster; all but ``matmul_precision`` give the same numbers.

    Args:
        short_loop: Run ordinary steps by a shorter loop, for releases of Lightning that it was compared with.
        keep_freed_memory: Have glibc keep freed memory for the next step, until the process ends.
        matmul_precision: Value of ``torch.set_float32_matmul_precision``: high is TF32 on GPUs; null changes nothing.
    """

    short_loop: bool = True
    keep_freed_memory: bool = True
    matmul_precision: Literal["highest", "high", "medium"] | None = None


def apply(options: SpeedOptions, trainer: Any) -> None:
    """Make the steps of a Trainer faster, before its `fit` is called."""
    torch.set_float32_matmul_precision(options.matmul_precision or torch.get_float32_matmul_precision())
    loop = trainer.fit_loop.epoch_loop
    if options.short_loop and pl.__version__ not in COMPARED_RELEASES:
        trainer.callbacks.append(LambdaCallback(on_fit_start=_print_that_loop_is_off))
    elif options.short_loop and type(loop) is _TrainingEpochLoop:
        loop.__class__ = ShortLoop
        loop._results.__class__ = _StillResults
    if options.keep_freed_memory:  # from the start of the training on, so that what was freed before it is returned
        trainer.callbacks.append(LambdaCallback(on_train_start=keep_freed_memory))


def _print_that_loop_is_off(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    if trainer.is_global_zero:
        releases = ", ".join(COMPARED_RELEASES)
        print(f"speed.short_loop is off: it was compared with Lightning {releases}, and this is {pl.__version__}.")


class ShortLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with an ordinary run's step in one function."""

    def on_run_start(self, data_fetcher: Any) -> None:
        """Look for the hooks to call."""
        super().on_run_start(data_fetcher)
        self._ordinary = is_ordinary(self.trainer)
        trainer: Any = self.trainer
        self._hooks = {
            name: [getattr(callback, name) for callback in trainer.callbacks if is_overridden(name, callback)]
            for name in STEP_HOOKS
        }
        owner = trainer._data_connector._datahook_selector.get_instance
        # of the module or the data module
        self._transfer = owner("transfer_batch_to_device").transfer_batch_to_device
        self._after_transfer = owner("on_after_batch_transfer").on_after_batch_transfer
        self._validates_at_end = (
            trainer.check_val_every_n_epoch is not None
            and trainer._val_check_time_interval is None
            and trainer.val_check_batch == trainer.num_training_batches
        )

    def advance(self, data_fetcher: Any) -> None:
        """Train one batch, by Lightning's own loop where the run is not an ordinary one."""
        if self.restarting or not self._ordinary or self.trainer.accumulate_grad_batches > 1:
            super().advance(data_fetcher)
            return
        trainer = self.trainer
        progress = self.batch_progress
        connector = trainer._logger_connector
        self.val_loop.restarting = False
        batch = next(data_fetcher)[0]
        batch_idx = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        batch = self._after_transfer(self._transfer(batch, trainer.strategy.root_device, 0), 0)
        progress.increment_ready()
        connector.on_batch_start(batch)
        if not connector._first_loop_iter:  # in the first one, Lightning resets the results of the last epoch
            connector._current_fx = None  # `self.log` sets it
        self._call("on_train_batch_start", batch, batch_idx)
        progress.increment_started()

        loss, extra = self._optimize(batch, batch_idx)

        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        outputs = {} if loss is None else {"loss": loss.detach(), **extra}
        self._call("on_train_batch_end", outputs, batch, batch_idx)
        trainer.lightning_module.__dict__["_current_fx_name"] = None
        if connector._first_loop_iter or connector._current_fx is not None:
            connector.on_batch_end()
        else:  # nothing was logged, so nothing is new
            self._results.batch = self._results.batch_size = None
        progress.increment_completed()
        connector.update_train_step_metrics()

    def _optimize(self, batch: Any, batch_idx: int) -> tuple[Tensor | None, dict[str, Any]]:
        """Take an optimizer step on a batch; return its loss and the step's other results."""
        trainer = self.trainer
        module = trainer.lightning_module
        optimizer = trainer.optimizers[0]
        counts = self.automatic_optimization.optim_progress.optimizer
        counts.step.increment_ready()
        module.__dict__["_current_fx_name"] = "training_step"  # for `self.log`
        with trainer.precision_plugin.train_step_context():
            loss = module.training_step(batch, batch_idx)
        extra: dict[str, Any] = {}
        if not isinstance(loss, Tensor):  # a dict, None for no step, or a mistake
            result = ClosureResult.from_training_step_output(loss)
            loss = result.closure_loss
            extra = result.extra
        counts.zero_grad.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        counts.zero_grad.increment_started()
        optimizer.zero_grad()
        counts.zero_grad.increment_completed()
        if loss is not None:
            self._call("on_before_backward", loss)
            loss.backward()
            self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        if trainer.gradient_clip_val:
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        optimizer.step()
        counts.step.increment_completed()
        return loss, extra

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Validate where it is due."""
        trainer = self.trainer
        if (
            not self._ordinary
            or trainer.accumulate_grad_batches > 1  # a callback may set it in the first batch after a resume
            or self.batch_progress.is_last_batch
            or trainer.should_stop
            or trainer.received_sigterm
            or trainer.lr_scheduler_configs
            or self._skip_next_val
            or (not self._validates_at_end and self._should_check_val_fx(data_fetcher))
        ):
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1

    def _call(self, name: str, *args: Any) -> None:
        hooks = self._hooks[name]
        if hooks:
            trainer = self.trainer
            module = trainer.lightning_module
            module.__dict__["_current_fx_name"] = name
            for hook in hooks:
                hook(trainer, module, *args)


def is_ordinary(trainer: Any) -> bool:
    """Return whether a step is one batch, one optimizer and one device, and nothing changes or watches it."""
    module = trainer.lightning_module
    precision = trainer.precision_plugin
    optimizer = trainer.optimizers[0]
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and (type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None))
        and type(trainer.profiler) is PassThroughProfiler
        and not trainer.fast_dev_run
        and trainer.accumulate_grad_batches == 1
        and module.automatic_optimization
        and len(trainer.optimizers) == 1
        and type(optimizer).__module__.startswith("torch.optim.")
        and not isinstance(optimizer, torch.optim.LBFGS)  # which calls the network several times in a step
        and not any(is_overridden(name, module) for name in STEP_METHODS)
        and not is_overridden("on_before_batch_transfer", trainer.datamodule)
        and is_param_in_hook_signature(module.training_step, "batch_idx", explicit=True, min_args=2)
    )


class _StillMetric(_ResultMetric):
    """A logged value that is moved only from another device, because the search for its tensors is slow."""

    def to(self, *args: Any, **kwargs: Any) -> _ResultMetric:
        """Return the metric itself if it is on that device already."""
        value = self.value if self.is_tensor else None
        if value is not None and not kwargs and args == (value.device,):
            return self
        return super().to(*args, **kwargs)


class _StillResults(_ResultCollection):
    """The values that ``self.log`` collects in training."""

    def __setitem__(self, key: str, metric: _ResultMetric) -> None:
        metric.__class__ = _StillMetric
        super().__setitem__(key, metric)


def keep_freed_memory(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Have glibc keep freed memory, because each step needs as much as the step before it has just freed.

    Otherwise tensors of megabytes are mapped again and cleared page by page in every step, a third of the time of a
    convolution at large batches (mallopt(3); PyTorch's tuning guide names other allocators for the same reason).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD, in bytes
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
