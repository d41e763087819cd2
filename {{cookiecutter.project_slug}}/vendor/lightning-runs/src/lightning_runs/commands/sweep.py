"""``sweep``: search for better options with Optuna. Trial 7 is the run ``NAME-007``."""

import math
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import optuna
from jsonargparse import ArgumentError, ArgumentParser
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import LambdaCallback

from ..cli.messages import parser_message, print_error
from ..errors import DivergedError, Mistake, UserError
from ..files import relative_path, write_whole
from ..names import program
from .trials import Trials, argument_parser

State = optuna.trial.TrialState
ENDED = (State.COMPLETE, State.PRUNED)
MAX_FAILURES = 3  # in a row
FORMS = {
    "choices": lambda trial, option, *choices: trial.suggest_categorical(option, choices),
    "uniform": optuna.Trial.suggest_float,
    "log_uniform": partial(optuna.Trial.suggest_float, log=True),
    "int": optuna.Trial.suggest_int,
    "log_int": partial(optuna.Trial.suggest_int, log=True),
}


@dataclass
class Space:
    """The keys of a search space's file."""

    metric: str  # logged after each epoch
    direction: Literal["maximize", "minimize"]
    space: dict[str, dict[str, list[int | float | str | bool | None]]]  # for each option one of FORMS, with its values
    sampler: optuna.samplers.BaseSampler | None = None  # chooses the values; None is Optuna's default
    pruner: optuna.pruners.BasePruner | None = None  # stops trials early; None stops none

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return a trial's value of each option."""
        values = {}
        for option, form in self.space.items():
            try:
                ((name, bounds),) = form.items()
                values[option] = FORMS[name](trial, option, *bounds)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"space.{option} is {form}; it must be {', '.join(FORMS)} ({error}).") from error
        return values


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Search until so many trials are complete or pruned, and write the best one's configuration."""
    parser = argument_parser("sweep", "Search for better options.")
    parser.add_argument("--trials", type=int, metavar="N", default=20, help="number of trials in all (default: 20)")
    parser.add_argument("--space", type=Path, metavar="FILE", default="configs/sweep.yaml", help="default: %(default)s")
    trials = Trials(parser, ["sweep", *args], (module_class, data_class))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", message="The reported value is ignored")  # of an epoch that is trained again
    space_parser = ArgumentParser(exit_on_error=False)
    space_parser.add_class_arguments(Space)
    try:
        space = Space(**space_parser.instantiate_classes(space_parser.parse_path(trials.options.space)))
        space.suggest(optuna.create_study().ask())  # refuses a wrong form, and the parser a wrong option
        for position in (0, -1):
            trials.fit_options({option: next(iter(form.values()))[position] for option, form in space.space.items()})
    except Mistake:
        print_error(UserError(f"the search space {trials.options.space} has this option."))
        raise
    except (ArgumentError, OSError, TypeError, ValueError, RecursionError) as error:
        text = parser_message(str(error), ()).removeprefix("--")  # a key of the file is not an option
        raise UserError(f"the search space {trials.options.space} can't be used: {text}") from error
    trials.fit_args += ["--test=false"]  # whoever chooses by the test data has none left for the last test
    with trials.locked("[0-9]*", space=space.space, metric=space.metric, direction=space.direction):
        Sweep(trials, space).work(trials.options.trials)
    return 0


class Sweep:
    """A study of Optuna's, and the runs of its trials, in a folder that this process has locked."""

    def __init__(self, trials: Trials, space: Space) -> None:
        self.trials = trials
        self.space = space
        lock: Any = Lock()  # of this process alone
        backend = optuna.storages.journal.JournalFileBackend(str(trials.folder / "trials.log"), lock)
        self.storage = optuna.storages.JournalStorage(backend)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=trials.name,
            direction=space.direction,
            sampler=space.sampler,
            pruner=space.pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def work(self, wanted: int) -> None:
        """Train those that were killed, and then new ones, until as many as are wanted have ended; write the best."""
        study_id = self.storage.get_study_id_from_name(self.trials.name)
        for killed in self.study.get_trials(states=(State.RUNNING,)):
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, killed.number)
            self.storage.set_trial_state_values(trial_id, State.WAITING)
        if len(self.study.get_trials(states=ENDED)) < wanted:
            enough = optuna.study.MaxTrialsCallback(wanted, states=ENDED)
            self.study.optimize(self.train, callbacks=[self.announce, enough])
        if not self.study.get_trials(states=(State.COMPLETE,)):
            raise UserError("no trial is complete, so there is no best one. Add trials, or change the pruner.")
        best = self.study.best_trial
        run = self.trials.run(f"{best.number:03d}")
        result = f"{run.name}, {self.space.metric} {best.value:.4f}, {best.params}"
        file = self.trials.folder / "best.yaml"
        write_whole(file, f"# The best of the sweep: {result}\n{run.config_file.read_text(encoding='utf-8')}")
        print(f"\nBest: {result}\nNext: {program()} fit -c {relative_path(file)}")

    def train(self, trial: optuna.Trial) -> float:
        """Train or resume a trial, and return the best value of its metric; that of a failed one is not a number."""
        stem = f"{trial.number:03d}"
        values = self.space.suggest(trial)
        try:
            self.trials.train(stem, values, [LambdaCallback(on_train_epoch_end=partial(self.report, trial))])
        except DivergedError as error:  # not a failure: Optuna learns to avoid such values
            raise optuna.TrialPruned from error
        except Exception as error:
            print_error(error)
            return math.nan
        measured = self.study.get_trials()[trial.number].intermediate_values.values()
        if not measured:
            raise UserError(f"{self.trials.name}-{stem} logs no {self.space.metric} (see {self.trials.options.space}).")
        if trial.user_attrs.get("pruned"):
            raise optuna.TrialPruned
        return max(measured) if self.space.direction == "maximize" else min(measured)

    def report(self, trial: optuna.Trial, trainer: Trainer, module: LightningModule) -> None:
        """Report the metric of an epoch to Optuna, and stop the training if Optuna prunes it."""
        value = trainer.callback_metrics.get(self.space.metric)
        if value is not None and math.isfinite(value):
            trial.report(float(value), trainer.current_epoch)
        # a training in several processes is not pruned: the others would not know of it
        if trainer.world_size == 1 and trial.should_prune():
            trial.set_user_attr("pruned", True)
            trainer.should_stop = True

    def announce(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Print how a trial ended, and end the sweep after several failures."""
        print(f"{self.trials.name}-{trial.number:03d} {trial.state.name.lower()}: {trial.value}", flush=True)
        last = study.get_trials()[-MAX_FAILURES:]
        if [one.state for one in last] == MAX_FAILURES * [State.FAIL]:
            raise UserError(f"the sweep ends: {MAX_FAILURES} trials in a row have failed. The first error is above.")
