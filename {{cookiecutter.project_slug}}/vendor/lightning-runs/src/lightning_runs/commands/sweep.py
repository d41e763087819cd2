"""``sweep``: search for better options with Optuna, by any number of processes, killed or not.

Trial 7 is the run ``NAME-007``. When a process dies, its trial returns to Optuna's queue.
"""

import io
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout
from jsonargparse import ArgumentError, ArgumentParser
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import LambdaCallback

from ..cli.messages import is_mistake, parser_message, print_error
from ..contract import Contract
from ..errors import DivergedError, Mistake, UserError, brief, require
from ..files import relative_path, write_whole
from ..names import program
from ..reports import report
from .trials import Trials, argument_parser, words

require("sweep", "optuna")
import optuna  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

State = optuna.trial.TrialState
ENDED = (State.COMPLETE, State.PRUNED)
MAX_FAILURES = 3  # in a row
COMPARED = 10  # of the best trials, side by side on a page
FORMS = {
    "choices": lambda *choices: CategoricalDistribution(choices),
    "uniform": FloatDistribution,
    "log_uniform": partial(FloatDistribution, log=True),
    "int": IntDistribution,
    "log_int": partial(IntDistribution, log=True),
}


@dataclass
class Space:
    """The keys of a search space's file."""

    space: dict[str, dict[str, list[int | float | str | bool | None]]]  # for each option one of FORMS, with its values
    metric: str | None = None  # logged after each epoch; None is the contract's headline
    direction: Literal["maximize", "minimize"] | None = None
    sampler: optuna.samplers.BaseSampler | None = None  # chooses the values; None is Optuna's default
    pruner: optuna.pruners.BasePruner | None = None  # stops trials early; None stops none

    def __post_init__(self) -> None:
        self.distributions: dict[str, Any] = {}
        for option, form in self.space.items():
            try:
                ((name, values),) = form.items()
                self.distributions[option] = FORMS[name](*values)
            except (KeyError, TypeError, ValueError) as error:
                allowed = f"choices: [A, B, …], or {', '.join([*FORMS][1:])}: [LOW, HIGH]"
                raise ValueError(f"{option} is {form}; it must be {allowed} ({error}).") from error

    def samples(self) -> list[dict[str, Any]]:
        """Return values of all options, in which each bound and each choice occurs."""
        values = {option: next(iter(form.values())) for option, form in self.space.items()}
        count = max(map(len, values.values()))
        return [{option: some[min(i, len(some) - 1)] for option, some in values.items()} for i in range(count)]


def read_space(file: Path, headline: tuple[str, str, str] | None) -> Space:
    """Read a search space; a file without a metric takes the contract's headline."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Space)
    try:
        space = Space(**parser.instantiate_classes(parser.parse_path(file)))
    except (ArgumentError, OSError, TypeError, ValueError, RecursionError) as error:
        text = parser_message(str(error), ()).removeprefix("--")  # a key of the file is not an option
        raise UserError(f"the search space {file} can't be used: {text}") from error
    if headline and space.metric in (None, f"val/{headline[0]}"):
        space.metric = f"val/{headline[0]}"
        space.direction = space.direction or ("maximize" if headline[1] == "max" else "minimize")
    for key in ("metric", "direction", "space"):
        if not getattr(space, key):
            raise UserError(f"the search space {file} has no {key}. Write it as in configs/sweep.yaml.")
    return space


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Search until so many trials are complete or pruned, and write the best one's configuration."""
    parser = argument_parser("sweep", "[--trials N] [--space FILE]", "Search for better options.")
    parser.add_argument("--trials", type=int, metavar="N", default=20, help="number of trials in all (default: 20)")
    space_help = "the options to search (default: configs/sweep.yaml)"
    parser.add_argument("--space", type=Path, metavar="FILE", default=Path("configs/sweep.yaml"), help=space_help)
    trials = Trials(parser, ["sweep", *args], (module_class, data_class))
    if trials.options.trials < 1:
        raise UserError(f"--trials is {trials.options.trials}; it must be at least 1.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="The reported value is ignored")  # of an epoch that is trained again
    space = read_space(trials.options.space, Contract(module_class, data_class).headline)
    for values in space.samples():
        try:
            with redirect_stderr(io.StringIO()):
                trials.fit_options(values)
        except Mistake as mistake:
            raise UserError(f"the search space {trials.options.space} can't be used: {mistake.text}") from mistake
    sweep = Sweep(trials, space)
    sweep.work()
    sweep.conclude()
    return 0


class Sweep:
    """A study of Optuna's, and this process's work on it.

    Args:
        trials: The runs of the study's trials.
        space: What is searched.
    """

    def __init__(self, trials: Trials, space: Space) -> None:
        trials.begin("[0-9]*", space=space.space, metric=space.metric, direction=space.direction)
        self.trials = trials
        self.space = space
        self.logged: list[str] = []  # names of all metrics
        file = trials.folder / "trials.log"
        backend = optuna.storages.journal.JournalFileBackend(str(file), lock_obj=trials.lock)  # type: ignore[arg-type]
        with trials.lock:
            os.truncate(file, file.read_bytes().rfind(b"\n") + 1)  # a full disk cuts the last line short
            self.storage = optuna.storages.JournalStorage(backend)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=trials.name,
                direction=space.direction,
                sampler=space.sampler,
                pruner=space.pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def work(self) -> None:
        """Train trials until as many as are wanted have ended, here or elsewhere."""
        failures = 0
        for trial in self._locked_trials():
            error = self._train(trial)
            failures = failures + 1 if error else 0
            if failures == MAX_FAILURES:
                raise UserError(f"{failures} trials in a row have failed, the last one {error}")

    def _in_state(self, *states: State) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _locked_trials(self) -> Iterator[optuna.Trial]:
        """Yield the trials of dead processes and new ones, each locked, until as many as are wanted have ended."""
        wanted = self.trials.options.trials
        study_id = self.storage.get_study_id_from_name(self.trials.name)
        while len(self._in_state(*ENDED)) < wanted:
            with ExitStack() as held:
                with self.trials.lock:
                    for left in self._in_state(State.RUNNING):
                        with suppress(Timeout), self.trials.lock_of(f"{left.number:03d}").acquire(blocking=False):
                            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, left.number)
                            self.storage.set_trial_state_values(trial_id, State.WAITING)
                    trial = None
                    if len(self._in_state(*ENDED, State.RUNNING)) < wanted:
                        trial = self.study.ask(self.space.distributions)
                        held.enter_context(self.trials.lock_of(f"{trial.number:03d}"))
                if trial is None:
                    time.sleep(1)  # other processes train the rest
                else:
                    yield trial

    def _train(self, trial: optuna.Trial) -> str | None:
        """Train or resume a trial, and tell Optuna how it ended; return why it failed, or None."""
        run = self.trials.run(f"{trial.number:03d}")
        params = self.study.get_trials()[trial.number].params  # a sampler may give 16.0 where the space has 16
        print(run.name, "resumes:" if run.config_file.is_file() else "starts:", words(params), flush=True)
        best = None
        try:
            report_epoch = LambdaCallback(on_train_epoch_end=partial(self._report, trial))
            self.trials.train(f"{trial.number:03d}", params, [report_epoch])
        except DivergedError as error:  # not a failure: Optuna learns to avoid such values
            state = State.PRUNED
            result = f"pruned: {error}"
        except Exception as error:
            state = State.FAIL
            result = f"failed: {brief(error)}"
            if not is_mistake(error):
                print_error(error)
        else:
            values = self.study.get_trials()[trial.number].intermediate_values.values()
            if not values:
                logged = ", ".join(self.logged)
                raise UserError(f"the sweep's metric is {self.space.metric!r}; the training logs {logged}.")
            if trial.user_attrs.get("pruned"):
                state = State.PRUNED
                result = f"pruned after {len(values)} epochs"
            else:
                state = State.COMPLETE
                best = max(values) if self.space.direction == "maximize" else min(values)
                result = f"finished: {self.space.metric} {best:.4f}"
        # a GridSampler whose values are used up tells Optuna's own loop to stop, and there is none
        with self.trials.lock, suppress(RuntimeError):
            self.study.tell(trial, best, state)
        print(f"{run.name} {result}", flush=True)
        return result if state == State.FAIL else None

    def _report(self, trial: optuna.Trial, trainer: Trainer, module: LightningModule) -> None:
        """Report the metric of an epoch to Optuna, and stop the training if Optuna prunes it."""
        self.logged = sorted(trainer.callback_metrics)
        value = trainer.callback_metrics.get(str(self.space.metric))
        if value is not None and isfinite(value):
            trial.report(float(value), trainer.current_epoch)
        # a training in several processes is not pruned: the others would not know of it
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if not is_last and trainer.world_size == 1 and trial.should_prune():
            trial.set_user_attr("pruned", True)
            trainer.should_stop = True

    def conclude(self) -> None:
        """Write the best trial's configuration and a page of the best ones, and print where they are."""
        complete = self._in_state(State.COMPLETE)
        if not complete:
            raise UserError("all trials were pruned, so there is no best one. Add trials, or change the pruner.")
        complete.sort(key=lambda trial: float(trial.value or 0.0), reverse=self.space.direction == "maximize")
        runs = [self.trials.run(f"{trial.number:03d}") for trial in complete[:COMPARED]]
        counts = f"{len(complete)} complete and {len(self._in_state(State.PRUNED))} pruned trials"
        result = f"{runs[0].name}, {self.space.metric} {complete[0].value:.4f}, of {counts}"
        file = self.trials.folder / "best.yaml"
        command = f"{program()} fit -c {relative_path(file)}"
        config = runs[0].config_file.read_text(encoding="utf-8").partition("\n")[2]
        write_whole(file, f"# The best of the sweep: {result}\n# To train it again: {command}\n{config}")
        page = report.write([report.Files(run) for run in runs], output=self.trials.folder / "sweep.html")
        print(f"\nBest: {result}\n      {words(complete[0].params)}\nConfig: {relative_path(file)}")
        print(f"The best trials side by side: {page}\nNext: {command}")
