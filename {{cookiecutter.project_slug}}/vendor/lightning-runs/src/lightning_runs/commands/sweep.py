"""``sweep``: search for better options with Optuna, by any number of processes, killed or not.

Trial 7 is the run ``NAME-007``, which the command `fit` trains. A process has a trial while it holds the lock on it.
When it dies, another process goes on with the trial. It has no `Trial` of Optuna's, but a `FrozenTrial`, which can be
told a result, and is never pruned.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from ..contract import Contract
from ..errors import DivergedError, UserError, brief, reason
from ..files import relative_path, write_whole
from ..names import program
from ..reports import report
from ..runs import Run
from . import trials
from .sweep_space import Space, optuna, read_space

from optuna.storages import JournalStorage  # isort: skip
from optuna.storages.journal import JournalFileBackend  # isort: skip
from optuna.trial import FrozenTrial, Trial  # isort: skip
from optuna.trial import TrialState as State  # isort: skip

MAX_FAILURES = 3  # in a row: then all trials fail
COMPARED = 10  # of the best trials, side by side on a page


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Search until so many trials are complete or pruned, and write the best one's configuration.

    Raises:
        UserError: The search space, an option or the folder can't be used, or trials fail.
    """
    name, options, fit = _parse(args)
    if options.trials < 1:
        raise UserError(f"--trials is {options.trials}; it must be at least 1.")
    trials.refuse("sweep", fit, trials.OF_A_RUN, f"it names its runs itself, {name}-000 and so on")
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    space = read_space(options.space, Contract(module_class, data_class).headline)
    base: dict[str, Any] = {}
    for values in (*space.samples(), {}):  # a wrong option ends the process with 2
        base = trials.options(module_class, data_class, [*fit, *trials.arguments(values)])
    try:
        with trials.resumable("sweep", args):
            folder = Path(base["trainer.default_root_dir"] or "runs") / name
            sweep = Sweep(folder, space, base, partial(trials.train, module_class, data_class, fit))
            sweep.work(options.trials)
            sweep.conclude()
    except (optuna.exceptions.OptunaError, OSError) as error:
        raise UserError(f"the sweep's folder can't be used: {reason(error).rstrip('.')}.") from error
    return 0


def _parse(args: list[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """Return the sweep's name, its own options, and those of `fit`."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} sweep",
        usage="%(prog)s [NAME] [--trials N] [--space FILE] [options of fit, for every trial]",
        description="Search for better options. The same command again goes on with a sweep, or works on it beside"
        " others. runs/NAME (default: sweep) has the results, and the trials are runs/NAME-000 and so on.",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, help="trials in all (default: 20)")
    parser.add_argument("--space", type=Path, default=Path("configs/sweep.yaml"), help="default: configs/sweep.yaml")
    return trials.parsed("sweep", parser, args)


class Sweep:
    """The trials of a sweep, and this process's work on them.

    Args:
        folder: The sweep's folder, ``runs/NAME``.
        space: What is searched.
        options: Options of `fit` that are the same for all trials, by their dotted names.
        fit: Runs `fit` with more options and callbacks in this process.

    Raises:
        UserError: Another sweep of this name was begun, or runs of its trials' names are there already.
    """

    def __init__(self, folder: Path, space: Space, options: dict[str, Any], fit: Callable[..., Any]) -> None:
        self.folder, self.space, self._fit = folder, space, fit
        runs = [*folder.glob("config.yaml"), *folder.parent.glob(f"{folder.name}-[0-9]*")]
        if runs and not (folder / "trials.log").exists():  # which is older than the trials of this sweep
            raise UserError(f"{runs[0]} is there, and is no trial of this sweep. Choose another name: sweep NAME")
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "sweep.lock")  # held while the journal is written, and while a trial is taken
        now = trials.fixed(options, **space.space, metric=space.metric, direction=space.direction)
        with self.lock:
            file = folder / "trials.log"
            file.touch()
            os.truncate(file, file.read_bytes().rfind(b"\n") + 1)  # what a full disk has cut short
            self.study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(file), lock_obj=self.lock)),  # type: ignore[arg-type]
                study_name=folder.name,
                direction=space.direction,
                sampler=space.sampler,
                pruner=space.pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
            begun = self.study.user_attrs.get("begun")
            self.study.set_user_attr("begun", begun := begun or now)
        trials.compare("sweep", folder.name, begun, now)

    def work(self, wanted: int) -> None:
        """Train trials until so many are complete or pruned, here or elsewhere.

        Raises:
            UserError: Several in a row have failed.
        """
        failures = 0
        while taken := self._take(wanted):
            trial, claim = taken
            with claim:
                failed = self._train(trial)
            failures = failures + 1 if failed else 0
            if failures == MAX_FAILURES:
                raise UserError(f"{failures} trials in a row have failed, the last one because: {failed}")

    def _trials(self, *states: State) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _take(self, wanted: int) -> tuple[Trial | FrozenTrial, AcquireReturnProxy] | None:
        """Take a trial that no process has, or a new one, with its lock; None where all that are wanted have ended."""
        while len(self._trials(State.COMPLETE, State.PRUNED)) < wanted:
            with self.lock:
                for trial in self._trials(State.RUNNING):
                    with suppress(Timeout):
                        claim = trials.claim(self.folder, f"{trial.number:03d}")
                        if trial.params.keys() == self.space.space.keys():
                            return trial, claim
                        with claim:  # its process died before all values were chosen
                            self.study.tell(trial.number, state=State.FAIL)
                if len(self._trials(State.COMPLETE, State.PRUNED, State.RUNNING)) < wanted:
                    trial = self.study.ask(self.space.distributions)
                    return trial, trials.claim(self.folder, f"{trial.number:03d}")
            time.sleep(1)  # other processes train what is still wanted
        return None

    def _train(self, trial: Trial | FrozenTrial) -> str | None:
        """Train a trial, or go on with it; return why it failed, if it did."""
        title, stem = f"trial {trial.number}", f"{trial.number:03d}"
        # a sampler may give 16.0 where the space has 16; what is stored is as in the space
        chosen = self.study.get_trials()[trial.number].params
        values = "  ".join(f"{name.split('.')[-1]} {short(value)}" for name, value in chosen.items())
        print(f"{title} {'goes on' if isinstance(trial, FrozenTrial) else 'begins'}: {values}", flush=True)
        reports, failed = Reports(trial, str(self.space.metric), self.folder / f"{stem}.json"), None
        try:
            with (self.folder / f"{stem}.txt").open("a", encoding="utf-8") as file, redirect_stdout(file):
                self._fit([*trials.arguments(chosen), f"--run={self.folder.name}-{stem}", "--resume"], [reports])
        except DivergedError as error:  # this is no failure: Optuna learns to avoid such values
            reports.pruned = True
            print(f"{title}: {error}", file=sys.stderr)
        except Exception as error:
            failed = brief(error)
            print(f"{title} failed: {failed}", file=sys.stderr)
        if not (failed or reports.pruned or reports.values):
            logged = ", ".join(reports.logged) or "nothing"
            raise UserError(f"the sweep's metric is {self.space.metric!r}; the training logs {logged}.")
        state = State.FAIL if failed else State.PRUNED if reports.pruned else State.COMPLETE
        best = (max if self.space.direction == "maximize" else min)(reports.values.values(), default=None)
        # a GridSampler whose values are used up tells Optuna's own loop to stop, and there is none
        with self.lock, suppress(RuntimeError):
            self.study.tell(trial.number, best if state == State.COMPLETE else None, state)
        if not failed:
            end = f"pruned after {len(reports.values)} epochs" if reports.pruned else f"{self.space.metric} {best:.4f}"
            print(f"{title}: {end}", flush=True)
        return failed

    def conclude(self) -> None:
        """Write the best trial's configuration and a page of the best ones, and say where they are.

        Raises:
            UserError: No trial is complete.
        """
        complete, pruned = self._trials(State.COMPLETE), self._trials(State.PRUNED)
        if not complete:
            raise UserError(f"none of the {len(pruned)} trials has come to its end; all of them were pruned.")
        complete.sort(key=lambda trial: float(trial.value or 0.0), reverse=self.space.direction == "maximize")
        runs = [Run(self.folder.with_name(f"{self.folder.name}-{trial.number:03d}")) for trial in complete]
        best, file = complete[0], self.folder / "best.yaml"
        score = f"{self.space.metric} {best.value:.4f}"
        result = f"trial {best.number}, {score}, of {len(complete)} complete and {len(pruned)} pruned"
        repeat = f"{program()} fit -c {relative_path(file)}"
        config = runs[0].config_file.read_text(encoding="utf-8").partition("\n")[2]
        header = f"# The best of the sweep {self.folder.name}: {result}\n# To train it again: {repeat}\n"
        write_whole(file, header + config)
        values = "".join(f"\n    {name}: {short(value)}" for name, value in best.params.items())
        print(f"\nBest: {result}{values}\nIts configuration: {relative_path(file)}")
        page = report.write([report.Files(run) for run in runs[:COMPARED]], output=self.folder / "sweep.html")
        print(f"The best ones side by side: {page}")
        print(f"Next: {repeat}")


class Reports(Callback):
    """Report a metric after each epoch to Optuna, and stop the training if Optuna prunes it.

    A training in several processes is not pruned: the other processes would not know of it.

    Args:
        trial: The trial.
        metric: The metric's name.
        file: Keeps what was reported for each epoch, also by a process that was killed.
    """

    def __init__(self, trial: Trial | FrozenTrial, metric: str, file: Path) -> None:
        self.trial, self.metric, self.file = trial, metric, file
        self.values: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.pruned = False
        self.logged: list[str] = []  # names of all metrics

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch's value of the metric."""
        epoch, metrics = trainer.current_epoch, trainer.callback_metrics
        self.logged = sorted(metrics)
        value = float(metrics.get(self.metric, math.nan))
        if math.isfinite(value):
            self.values[str(epoch)] = value
            write_whole(self.file, json.dumps(self.values))
            self.trial.report(value, epoch)
        if epoch + 1 != trainer.max_epochs and trainer.world_size == 1 and self.trial.should_prune():
            self.pruned = trainer.should_stop = True


def short(value: Any) -> str:
    """A value in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
