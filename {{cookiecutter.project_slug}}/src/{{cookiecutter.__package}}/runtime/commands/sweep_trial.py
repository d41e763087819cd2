"""The trials of a sweep: each is taken by one process, trained by the command `fit`, and told to Optuna.

Trial 7 is the run ``NAME-007``. A process has a trial while it holds the lock on it, which the system frees when the
process dies. A trial that is under way, and that no process has, goes on from its run's checkpoint.

Only `ask` makes a `Trial`, which can report values and be pruned; Optuna has no public way to make one of another
process's trial. So such a trial goes on as in Optuna's own `RetryHeartbeatStaleTrialCallback`: a copy with its values
and its learning curve waits for the next `ask`, and it ends as failed. The copy's attribute ``run`` is the number of
the first one, and so of the run. Only the newest of a run counts.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelSummary

from .. import signals
from ..errors import DivergedError, UserError, message, reason
from ..parser import quiet
from ..trainer import TrainerCLI

if TYPE_CHECKING:
    from .sweep import Space

MAX_FAILURES = 3  # in a row: then all trials fail


class Trials:
    """The trials of a sweep, and this process's work on them.

    Args:
        folder: The sweep's folder, ``runs/NAME``.
        space: What is searched.
        url: The database; None is a file in the folder.
        fit: Trains with these options and one more callback.
    """

    def __init__(self, folder: Path, space: Space, url: str | None, fit: Callable[[list[str], Reports], None]) -> None:
        self.folder, self.space, self._fit = folder, space, fit
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "sweep.lock")  # held while a trial is taken, and while its result is told
        with self.lock:
            self.study = optuna.create_study(
                storage=url or f"sqlite:///{(folder / 'sweep.db').as_posix()}?timeout=20",
                study_name=folder.name,
                direction=space.direction,
                sampler=space.sampler,
                pruner=space.pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def work(self, wanted: int) -> None:
        """Train trials until so many are complete or pruned, here or elsewhere.

        Raises:
            UserError: Several in a row have failed.
        """
        failures, waits = 0, False
        while self.count(TrialState.COMPLETE, TrialState.PRUNED) < wanted:
            if not (taken := self._take(wanted)):
                if not waits:
                    print("waiting for the trials of other processes", flush=True)
                waits = True
                time.sleep(1)
                continue
            trial, claim = taken
            with claim:
                failed = self._train(trial)
            failures, waits = failures + 1 if failed else 0, False
            if failures == MAX_FAILURES:
                raise UserError(f"{failures} trials in a row have failed, the last one because: {failed}")

    def count(self, *states: TrialState) -> int:
        """How many trials are in these states."""
        return len(self.study.get_trials(deepcopy=False, states=states))

    def run_folder(self, trial: Trial | FrozenTrial) -> Path:
        """The folder of a trial's run."""
        return self.folder.with_name(f"{self.folder.name}-{number(trial):03d}")

    def _take(self, wanted: int) -> tuple[Trial, AcquireReturnProxy] | None:
        """Take a trial that no process has, or a new one; None where other processes have all that are still wanted."""
        with self.lock:
            newest = {number(trial): trial for trial in self.study.get_trials(deepcopy=False)}
            under_way = [trial for trial in newest.values() if trial.state == TrialState.RUNNING]
            left = []
            for trial in under_way:
                with suppress(Timeout), self._claim(trial):
                    left.append(trial)
            if self.count(TrialState.COMPLETE, TrialState.PRUNED) + len(under_way) - len(left) >= wanted:
                return None
            if left and not self.count(TrialState.WAITING):
                self._return_to_queue(left[0])
            trial = self.study.ask(self.space.distributions())
            folder = self.run_folder(trial)
            if "run" not in trial.user_attrs and folder.exists():
                self.study.tell(trial, state=TrialState.FAIL)
                raise UserError(f"{folder} is there, and is no trial of this sweep. Choose another name: sweep NAME")
            return trial, self._claim(trial)

    def _claim(self, trial: Trial | FrozenTrial) -> AcquireReturnProxy:
        """Take the lock of a trial; it is a `Timeout` if another process has it."""
        return FileLock(self.folder / f"{number(trial):03d}.lock").acquire(blocking=False)

    def _return_to_queue(self, trial: FrozenTrial) -> None:
        """Let the next `ask` return a trial that a process has left."""
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
                user_attrs=trial.user_attrs | {"run": number(trial)},
                system_attrs=trial.system_attrs,  # notes of the sampler and the pruner
            )
        )
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _train(self, trial: Trial) -> str | None:
        """Train a trial, or go on with it; return why it failed, if it did."""
        # a sampler may give 16.0 where the space has 16; what is stored is as in the space
        stored = self.study.get_trials()[trial.number]
        reports = Reports(trial, str(self.space.metric), stored.intermediate_values)
        title, run, failed = f"trial {number(trial)}", self.run_folder(trial).name, None
        values = "  ".join(f"{name.split('.')[-1]} {short(value)}" for name, value in stored.params.items())
        print(f"{title} {'goes on' if 'run' in trial.user_attrs else 'begins'}: {values}", flush=True)
        try:
            self._fit([*arguments(stored.params), f"--run={run}", "--resume"], reports)
        except DivergedError as error:  # this is no failure: Optuna learns to avoid such values
            reports.pruned = True
            print(f"{title}: {error}", file=sys.stderr)
        except Exception as error:
            failed = message(error) or f"{type(error).__name__}: {reason(error)}"
            print(f"{title} failed: {failed}", file=sys.stderr)
        if not (failed or reports.pruned or reports.values):
            logged = ", ".join(reports.logged) or "nothing"
            raise UserError(f"the sweep's metric is {self.space.metric!r}; the training logs {logged}.")
        state = TrialState.FAIL if failed else TrialState.PRUNED if reports.pruned else TrialState.COMPLETE
        best = (max if self.space.direction == "maximize" else min)(reports.values.values(), default=None)
        # a GridSampler whose values are used up tells Optuna's own loop to stop, and there is none
        with self.lock, suppress(RuntimeError):
            self.study.tell(trial, best if state == TrialState.COMPLETE else None, state)
        if not failed:
            end = f"pruned after {len(reports.values)} epochs" if reports.pruned else f"{self.space.metric} {best:.4f}"
            print(f"{title}: {end} ({run})", flush=True)
        return failed


class Reports(Callback):
    """Report a metric after each epoch to Optuna, and stop the training if Optuna prunes it.

    A training in several processes is not pruned: the other processes would not know of it.
    """

    def __init__(self, trial: Trial, metric: str, values: dict[int, float]) -> None:
        self.trial = trial
        self.metric = metric
        self.values = values  # what was reported for each epoch, also by a process that was killed
        self.pruned = False
        self.logged: list[str] = []  # names of all metrics

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        # the sweep prints a line for each trial in place of a summary
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


def train(module_class: type, data_class: type | None, fit: list[str], more: list[str], reports: Reports) -> None:
    """Run `fit` with one more callback in this process, and restore what it changes there.

    A process for each trial would import torch and Lightning each time (4 seconds, as long as a small training), and a
    forked process can't use a GPU that its parent has used.

    Raises:
        signals.Stopped: A signal came; the run can be resumed.
        Exception: The training failed.
    """
    program, environment = sys.argv, dict(os.environ)
    # run.json records it, and Lightning starts the processes of other devices by it
    sys.argv = [program[0], "fit", *fit, *more]
    try:
        with signals.handled(), quiet():
            _SilentCLI(module_class, data_class, sys.argv[1:], callbacks=[reports])
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


def number(trial: Trial | FrozenTrial) -> int:
    """The number of a trial's run."""
    return trial.user_attrs.get("run", trial.number)


def arguments(values: dict[str, Any]) -> list[str]:
    """Options of the command line that set these values."""
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


def short(value: Any) -> str:
    """A value in four digits."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
