"""One trial of a sweep: the command `fit` in the sweep's own process, which reports to Optuna after each epoch.

A process for each trial would import torch and Lightning each time (4 seconds, as long as a small training), and a
forked process can't use a GPU that its parent has used.
"""

from __future__ import annotations

import gc
import math
import os
import sys
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelSummary

from .. import runs, signals
from ..errors import UserError
from ..parser import quiet
from ..trainer import TrainerCLI


class Reports(Callback):
    """Report a metric after each epoch to Optuna, and stop the training if Optuna prunes it.

    A training in several processes is not pruned: the other processes would not know of it.

    Args:
        trial: Optuna's trial.
        metric: The metric's name, as it is logged.
        values: What was reported for each epoch before the trial was killed.

    Attributes:
        pruned: Whether the training was ended early.
        logged: Names of all metrics that were logged.
    """

    def __init__(self, trial: Any, metric: str, values: dict[int, float]) -> None:
        self.trial = trial
        self.metric = metric
        self.values = values
        self.pruned = False
        self.logged: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # the sweep prints a line for each trial instead
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, ModelSummary)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.values:  # the process may have been killed after Optuna pruned the trial
            self._prune(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch, metrics = trainer.current_epoch, trainer.callback_metrics
        self.logged = sorted(metrics)
        value = float(metrics.get(self.metric, math.nan))
        if math.isfinite(value) and epoch not in self.values:  # an epoch can come again after a kill
            self.values[epoch] = value
            self.trial.report(value, epoch)
        if epoch + 1 != trainer.max_epochs:
            self._prune(trainer)

    def _prune(self, trainer: Trainer) -> None:
        if trainer.world_size == 1 and self.trial.should_prune():
            self.pruned = trainer.should_stop = True


class _SilentCLI(TrainerCLI):
    def say(self, text: str) -> None:
        """Print nothing."""


def train(module_class: type, data_class: type | None, fit: list[str], reports: Reports) -> None:
    """Run `fit` in this process, and restore what it changes there.

    Raises:
        signals.Stopped: A signal came; the run can be resumed.
        Exception: The training failed.
    """
    program, environment = sys.argv, dict(os.environ)
    sys.argv = [program[0], "fit", *fit]  # run.json records it, and Lightning starts other devices' processes by it
    try:
        with runs.locks_freed(), signals.handled(), quiet():
            _SilentCLI(module_class, data_class, sys.argv[1:], callbacks=[reports])
    except SystemExit as stop:
        if isinstance(stop, signals.Stopped):
            raise
        raise UserError("the command line was refused; the reason stands above.") from stop
    finally:
        sys.argv = program
        os.environ.clear()
        os.environ.update(environment)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if "torch._dynamo" in sys.modules:  # it compiles only the first eight networks of a process otherwise
            torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
