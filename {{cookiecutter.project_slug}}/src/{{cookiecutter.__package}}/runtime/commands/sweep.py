"""``sweep``: search for better options with Optuna, by any number of processes, killed or not.

Trial 7 is the run ``NAME-007``. A process has a trial while it holds the lock on it, which the system frees when the
process dies. A trial that is under way, and that no process has, goes on from its run's checkpoint.

Only `ask` makes a `Trial`, which can report values and be pruned; Optuna has no public way to make one of another
process's trial. So such a trial goes on as in Optuna's own `RetryHeartbeatStaleTrialCallback`: it ends as failed, and a
copy with its values and its learning curve waits for the next `ask`. The copy's attribute ``run`` is the number of the
first one, and so of the run.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import AcquireReturnProxy, FileLock, Timeout
from jinja2 import Environment
from jsonargparse import ArgumentError, ArgumentParser

from .. import signals
from ..checkpoints import flat
from ..cli import CHANGEABLE, LIMITS, RunCLI
from ..contract import Contract
from ..errors import DivergedError, UserError, message, reason
from ..parser import parser_message, quiet
from ..runs import Run, write_whole
from ..trainer import shown
from . import PROGRAM, _extras, sweep_trial

_extras.require("sweep", "optuna", "plotly")
import optuna  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial  # noqa: E402

MAX_FAILURES = 3  # in a row: then all trials fail
FORMS = "choices: [A, B, …], or uniform, log_uniform, int or log_int: [LOW, HIGH]"
PLOTS = {
    "optimization_history": "Value of each trial, and the best so far",
    "intermediate_values": "Learning curve of each trial; a short one was pruned",
    "param_importances": "How much of the differences each option accounts for",
    "slice": "Value against each option",
    "parallel_coordinate": "All options of each trial",
}


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Search until so many trials are complete or pruned, and write the best one's configuration.

    Raises:
        UserError: The search space, an option or the database can't be used, or trials fail.
    """
    name, options, fit = _parse(args)
    if options.trials < 1:
        raise UserError(f"--trials is {options.trials}; it must be at least 1.")
    if taken := {argument.split("=")[0] for argument in fit} & {"--run", "--resume", "--ckpt_path"}:
        raise UserError(f"{min(taken)} is no option of sweep: it names its runs itself, {name}-000 and so on.")
    contract = Contract(module_class, data_class)
    space = read_space(options.space, contract.headline)
    values = {option: next(iter(form.values())) for option, form in space.space.items()}
    for i in range(max(map(len, values.values()))):  # every bound and every choice is tried on the parser
        sample = {option: of[min(i, len(of) - 1)] for option, of in values.items()}
        _options(contract, fit + _arguments(sample))
    base = _options(contract, fit)
    try:
        with _database_errors():
            sweep = Sweep(Path(base["trainer.default_root_dir"] or "runs") / name, space, options.storage)
            sweep.refuse_changes({key: base[key] for key in base if key not in CHANGEABLE - LIMITS})
            sweep.work(options.trials, contract, fit)
            sweep.conclude()
    except signals.Stopped as stop:
        print(f"stopped by {stop.name}; to go on: {PROGRAM} sweep {shlex.join(args)}", file=sys.stderr)
        return int(stop.code or 1)
    return 0


def _parse(args: list[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """Return the sweep's name, its own options, and those of `fit`."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} sweep",
        usage="%(prog)s [NAME] [--trials N] [--space FILE] [--storage URL] [options of fit, for every trial]",
        description="Search for better options. The same command again goes on with a sweep that was killed, or works"
        " on it beside others. NAME (default: sweep) comes first: runs/NAME has the results, and runs/NAME-000 and so"
        " on are the trials.",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, help="trials in all (default: 20)")
    parser.add_argument("--space", type=Path, default=Path("configs/sweep.yaml"), help="default: configs/sweep.yaml")
    parser.add_argument("--storage", help="database, such as postgresql://user@host/base (default: runs/NAME/sweep.db)")
    named = bool(args) and not args[0].startswith("-")  # a later one could be the value of an option of fit
    options, fit = parser.parse_known_args(args[named:])
    return (args[0] if named else "sweep"), options, fit


def _options(contract: Contract, fit: list[str]) -> dict[str, Any]:
    """All options of `fit` by their dotted names; a wrong one ends the process with 2."""
    with quiet():
        return flat(RunCLI(contract.module_class, contract.data_class, ["fit", *fit], execute=False).options())


def _arguments(values: dict[str, Any]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


@contextmanager
def _database_errors() -> Iterator[None]:
    """Say in one line why the database can't be used. Its URL may hold a password, so it is not shown."""
    try:
        yield
    except Exception as error:
        of_database = type(error).__module__.startswith(("sqlalchemy.", "optuna.exceptions"))
        if not of_database and not isinstance(error, ImportError):
            raise
        cause: Any = error.__cause__ or error
        raise UserError(f"the sweep's database can't be used: {reason(getattr(cause, 'orig', cause))}.") from error


@dataclass
class Space:
    """What is searched, and by which measure: ``configs/sweep.yaml``.

    Args:
        space: For each option of `fit` the kind of its values, and their bounds or choices.
        metric: The metric, as it is logged after each epoch; None is the contract's headline.
        direction: Which of its values are the best; None follows the headline.
        sampler: What chooses the values; None is Optuna's own choice.
        pruner: What ends a trial early; None ends none.
    """

    space: dict[str, dict[str, list[int | float | str | bool | None]]]
    metric: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    sampler: optuna.samplers.BaseSampler | None = None
    pruner: optuna.pruners.BasePruner | None = None

    def distributions(self) -> dict[str, Any]:
        """Return what Optuna samples each option's values from.

        Raises:
            ValueError: An option has no such kind of values.
        """
        return {option: _distribution(option, form) for option, form in self.space.items()}


def _distribution(option: str, form: dict[str, list[Any]]) -> Any:
    try:
        ((kind, values),) = form.items()
        if kind == "choices":
            return CategoricalDistribution(values)
        number = {"uniform": float, "log_uniform": float, "int": int, "log_int": int}[kind]
        low, high = values
        if not all(isinstance(value, int | number) and math.isfinite(value) for value in values):
            raise ValueError(f"each is a finite {number.__name__}")
        return (IntDistribution if number is int else FloatDistribution)(low, high, log="log" in kind)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{option} is {form}; it must be {FORMS} ({error}).") from error


def read_space(file: Path, headline: tuple[str, str, str] | None) -> Space:
    """Read a search space.

    Args:
        file: Where it is.
        headline: The contract's (metric without split, ``max`` or ``min``, unit).

    Raises:
        UserError: The file can't be read, or does not hold what it should.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Space)
    try:
        space = Space(**parser.instantiate_classes(parser.parse_path(file)))
        space.distributions()
    except (ArgumentError, OSError, TypeError, ValueError) as error:
        raise UserError(f"the search space {file} can't be used: {parser_message(str(error), ())}") from error
    if headline and space.metric in (None, f"val/{headline[0]}"):
        space.metric, space.direction = f"val/{headline[0]}", space.direction or f"{headline[1]}imize"  # type: ignore
    for key in ("metric", "direction", "space"):
        if not getattr(space, key):
            raise UserError(f"the search space {file} has no {key}. Write it as in configs/sweep.yaml.")
    return space


class Sweep:
    """A sweep, and this process's work on it.

    Args:
        folder: Its folder, ``runs/NAME``.
        space: What is searched.
        url: The database; None is a file in the folder.
    """

    def __init__(self, folder: Path, space: Space, url: str | None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space = folder, space
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "sweep.lock")  # held while a trial is taken, and while its result is told
        with self._lock:
            self._study = optuna.create_study(
                storage=url or f"sqlite:///{(folder / 'sweep.db').as_posix()}?timeout=20",
                study_name=folder.name,
                direction=space.direction,
                sampler=space.sampler,
                pruner=space.pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def refuse_changes(self, options: dict[str, Any]) -> None:
        """Refuse to go on with another sweep than the one that was begun.

        Args:
            options: All options that the trials have in common.

        Raises:
            UserError: The search space or an option differs, or the trials are in another folder.
        """
        file = self.folder / "sweep.id"
        with self._lock:
            if not file.is_file():
                write_whole(file, uuid4().hex)
            # without a common folder, a process would see neither the locks nor the checkpoints of the others
            now = {"the folder": file.read_text(encoding="utf-8"), **options, **self.space.space}
            now |= {"metric": self.space.metric, "direction": self.space.direction}
            now = json.loads(json.dumps(now, default=str))
            begun = self._study.user_attrs.get("begun", now)
            self._study.set_user_attr("begun", begun)
        for key in sorted(now | begun):
            if now.get(key) != begun.get(key):
                raise UserError(
                    f"the sweep {self.folder.name} was begun with {key} {json.dumps(begun.get(key))}, and now it is"
                    f" {json.dumps(now.get(key))}. Begin another one under a name of its own: sweep NAME"
                )

    def work(self, wanted: int, contract: Contract, fit: list[str]) -> None:
        """Train trials until so many are complete or pruned, here or elsewhere.

        Args:
            wanted: How many.
            contract: It has the classes.
            fit: Options of `fit` for every trial.

        Raises:
            UserError: Several in a row have failed.
        """
        failures, waits = 0, False
        while self._count(TrialState.COMPLETE, TrialState.PRUNED) < wanted:
            if not (taken := self._take(wanted)):
                if not waits:
                    print("waiting for the trials of other processes", flush=True)
                waits = True
                time.sleep(1)
                continue
            waits = False
            trial, claim = taken
            with claim:
                failed = self._train(trial, contract, fit)
            failures = failures + 1 if failed else 0
            if failures == MAX_FAILURES:
                raise UserError(f"{failures} trials in a row have failed, the last one because: {failed}")

    def _count(self, *states: TrialState) -> int:
        return len(self._study.get_trials(deepcopy=False, states=states))

    def _take(self, wanted: int) -> tuple[Trial, AcquireReturnProxy] | None:
        """Take a trial that no process has, or a new one; None where other processes have all that are still wanted."""
        with self._lock:
            newest = {_number(trial): trial for trial in self._study.get_trials(deepcopy=False)}
            under_way = [trial for trial in newest.values() if _is_under_way(trial)]
            left = []
            for trial in under_way:
                with suppress(Timeout), self._claim(trial):
                    left.append(trial)
            if self._count(TrialState.COMPLETE, TrialState.PRUNED) + len(under_way) - len(left) >= wanted:
                return None
            if left and not self._count(TrialState.WAITING):
                self._leave_to_ask(left[0])
            trial = self._study.ask(self.space.distributions())
            folder = self._run_folder(trial)
            if "run" not in trial.user_attrs and folder.exists():
                trial.set_user_attr("failed", "its folder was there before")
                self._study.tell(trial, state=TrialState.FAIL)
                raise UserError(f"{folder} is there, and is no trial of this sweep. Choose another name: sweep NAME")
            return trial, self._claim(trial)

    def _claim(self, trial: Trial | FrozenTrial) -> AcquireReturnProxy:
        """Take the lock of a trial.

        Raises:
            Timeout: Another process has it.
        """
        return FileLock(self.folder / f"{_number(trial):03d}.lock").acquire(blocking=False)

    def _leave_to_ask(self, trial: FrozenTrial) -> None:
        """Let the next `ask` return a trial that a process has left."""
        if trial.state == TrialState.RUNNING:
            self._study.tell(trial.number, state=TrialState.FAIL)
        self._study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
                user_attrs=trial.user_attrs | {"run": _number(trial)},
                system_attrs=trial.system_attrs,  # notes of the sampler and the pruner
            )
        )

    def _run_folder(self, trial: Trial | FrozenTrial) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{_number(trial):03d}")

    def _train(self, trial: Trial, contract: Contract, fit: list[str]) -> str | None:
        """Train a trial, or go on with it; return why it failed, if it did."""
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        reports = sweep_trial.Reports(trial, str(self.space.metric), dict(known))
        title, folder, failed = f"trial {_number(trial)}", self._run_folder(trial), None
        values = "  ".join(f"{name.split('.')[-1]} {_short(value)}" for name, value in trial.params.items())
        print(f"{title} {'goes on' if 'run' in trial.user_attrs else 'begins'}: {values}", flush=True)
        args = [*fit, *_arguments(trial.params), f"--run={folder.name}", "--resume"]
        try:
            sweep_trial.train(contract.module_class, contract.data_class, args, reports)
        except DivergedError as error:  # this is no failure: Optuna learns to avoid such values
            reports.pruned = True
            print(f"{title}: {error}", file=sys.stderr)
        except Exception as error:
            failed = message(error) or f"{type(error).__name__}: {reason(error)}"
            print(f"{title} failed: {failed}", file=sys.stderr)
            trial.set_user_attr("failed", failed)
        if not (failed or reports.pruned or reports.values):
            logged = ", ".join(reports.logged) or "nothing"
            raise UserError(f"the sweep's metric is {self.space.metric!r}; the training logs {logged}.")
        best = (max if self.space.direction == "maximize" else min)(reports.values.values(), default=None)
        state = TrialState.FAIL if failed else TrialState.PRUNED if reports.pruned else TrialState.COMPLETE
        # a GridSampler whose values are used up tells Optuna's own loop to stop, and there is none
        with self._lock, suppress(RuntimeError):
            self._study.tell(trial, best if state == TrialState.COMPLETE else None, state)
        if not failed:
            end = f"pruned after {len(reports.values)} epochs" if reports.pruned else f"{self.space.metric} {best:.4f}"
            print(f"{title}: {end} ({folder.name})", flush=True)
        return failed

    def conclude(self) -> None:
        """Write the best trial's configuration and a page of plots, and say where they are.

        Raises:
            UserError: No trial is complete.
        """
        complete, pruned = self._count(TrialState.COMPLETE), self._count(TrialState.PRUNED)
        if not complete:
            raise UserError(f"none of the {pruned} trials has come to its end; all of them were pruned.")
        best = self._study.best_trial
        file, page = self.folder / "best.yaml", self.folder / "sweep.html"
        score = f"{self.space.metric} {best.value:.4f}"
        result = f"trial {_number(best)}, {score}, of {complete} complete and {pruned} pruned"
        repeat = f"{PROGRAM} fit -c {shown(file)}"
        config = Run(self._run_folder(best)).config_file.read_text(encoding="utf-8").partition("\n")[2]
        header = f"# The best of the sweep {self.folder.name}: {result}\n# To train it again: {repeat}\n"
        write_whole(file, header + config)
        write_whole(page, self._page())
        values = "".join(f"\n    {name}: {_short(value)}" for name, value in best.params.items())
        print(f"\nBest: {result}{values}\nIts configuration: {shown(file)}\nPlots: {shown(page)}\nNext: {repeat}")

    def _page(self) -> str:
        """The page with a table of the trials and Optuna's plots, which needs no network."""
        plots: dict[str, str] = {}
        for kind, title in PLOTS.items():
            extra: dict[str, Any] = {} if kind == "intermediate_values" else {"target_name": self.space.metric}
            if kind == "param_importances":  # Optuna's default needs scikit-learn
                extra["evaluator"] = optuna.importance.PedAnovaImportanceEvaluator()
            with suppress(ValueError, RuntimeError):  # there is too little to show, such as a single trial
                figure = getattr(optuna.visualization, f"plot_{kind}")(self._study, **extra)
                figure.update_layout(title=None, margin={"t": 30}, legend={"orientation": "h", "y": -0.2})
                # the script is in the page once
                plots[title] = figure.to_html(False, include_plotlyjs=not plots, config={"displaylogo": False})
        trials = {_number(trial): trial for trial in self._study.get_trials(deepcopy=False) if trial.params}
        template = Path(__file__).with_name("sweep.html.jinja").read_text(encoding="utf-8")
        page = Environment(autoescape=True).from_string(template)
        values = {"name": self.folder.name, "metric": self.space.metric, "options": list(self.space.space)}
        return page.render(values, trials=trials, plots=plots, short=_short)


def _number(trial: Trial | FrozenTrial) -> int:
    """The number of the trial's run."""
    return trial.user_attrs.get("run", trial.number)


def _is_under_way(trial: FrozenTrial) -> bool:
    # a process that is killed in `_leave_to_ask` leaves a trial that failed without a reason
    return trial.state == TrialState.RUNNING or (trial.state == TrialState.FAIL and "failed" not in trial.user_attrs)


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
