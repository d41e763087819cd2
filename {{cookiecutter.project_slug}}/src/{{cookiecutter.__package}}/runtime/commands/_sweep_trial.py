"""One trial of a sweep: a training like any other, which reports to Optuna after each epoch.

Trials are trained in the sweep's own process, one after the other. A process for each would pay for the import of torch
and Lightning every time (4 seconds, as long as a small training), and a forked one can't use a GPU that its parent has
used. What a training leaves behind in a process is put back by `alone`; that the best trial's configuration gives the
same metric in a new process is tested.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelSummary

from .. import signals
from ..data import DataModule
from ..errors import UserError
from ..module import ImageClassifier
from ..parser import quiet
from ..train import TrainerCLI


class Parsed(TrainerCLI):
    """The command line of `fit`, parsed and checked; nothing is built and nothing is trained."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(ImageClassifier, DataModule, args=args)

    def _set_seed(self) -> None: ...

    def before_instantiate_classes(self) -> None: ...

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...

    @property
    def options(self) -> dict[str, Any]:
        """All options as plain values."""
        return self._options()


class _TrialCLI(TrainerCLI):
    """The command `fit` with one more callback, which is no part of the run's configuration."""

    def __init__(self, args: list[str], callback: Callback) -> None:
        self._callback = callback
        super().__init__(ImageClassifier, DataModule, args=args)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, ModelSummary)]
        # checkpoints are last, so that they count this epoch
        trainer.callbacks = [self._callback, *callbacks]
        return trainer

    def say(self, text: str) -> None:
        """Print nothing: the sweep has a line for each trial."""


class Reports(Callback):
    """Report a metric after each epoch to Optuna, and stop the training if Optuna prunes it.

    A training in several processes is not pruned: the others would not know of it.

    Args:
        trial: Optuna's trial.
        metric: The metric's name, as it is logged.
        reported: Epochs that were reported before, in a training that goes on.
        check: Called before each report; raises where the trial is this process's no more.

    Attributes:
        pruned: Whether the training was ended early.
        logged: Names of the metrics that there were.
    """

    def __init__(self, trial: Any, metric: str, reported: set[int], check: Callable[[], None]) -> None:
        self.trial = trial
        self.metric = metric
        self.check = check
        self.pruned = False
        self.logged: list[str] = []
        self._reported = reported

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._reported:  # it may have been killed after it was pruned
            self._prune(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.check()
        epoch = trainer.current_epoch
        self.logged = sorted(trainer.callback_metrics)
        if self.metric not in trainer.callback_metrics:
            return
        if epoch not in self._reported:  # else it was reported before a kill, after which the epoch came again
            self.trial.report(float(trainer.callback_metrics[self.metric]), epoch)
            self._reported.add(epoch)
        if epoch + 1 != trainer.max_epochs:
            self._prune(trainer)

    def _prune(self, trainer: pl.Trainer) -> None:
        if trainer.world_size == 1 and self.trial.should_prune():
            self.pruned = trainer.should_stop = True


def train(args: list[str], reports: Reports) -> None:
    """Run the command `fit` with these arguments in this process.

    Raises:
        signals.Stopped: A signal came; the run can be resumed.
        Exception: The training failed.
    """
    with alone(args), signals.handled(), quiet():
        try:
            _TrialCLI(args, reports)
        except SystemExit as stop:
            if isinstance(stop, signals.Stopped):
                raise
            raise UserError("the command line was refused, as told above.") from stop


@contextmanager
def alone(args: list[str]) -> Iterator[None]:
    """Let a training see the command line that it would have in a process of its own, and leave nothing of it."""
    before, environment = sys.argv, dict(os.environ)
    # what run.json records, and what Lightning starts for the other devices
    sys.argv = [before[0], *args]
    try:
        yield
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if "torch._dynamo" in sys.modules:  # else networks after the eighth would not be compiled any more
            torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
