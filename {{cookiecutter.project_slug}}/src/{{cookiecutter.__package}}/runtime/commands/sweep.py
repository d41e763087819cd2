"""``sweep``: search for better options with Optuna, by any number of processes, killed or not.

This file has what is searched and what comes out; `sweep_trial` has how the processes share the trials.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from jinja2 import Environment
from jsonargparse import ArgumentError, ArgumentParser

from .. import signals
from ..changes import CHANGEABLE, LIMITS
from ..checkpoints import flat
from ..cli import RunCLI
from ..contract import Contract
from ..errors import UserError, reason, require
from ..parser import parser_message
from ..runs import Run, write_whole
from ..trainer import relative_path
from . import PROGRAM

require("sweep", "optuna", "plotly")
import optuna  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.exceptions import ExperimentalWarning, OptunaError  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from .sweep_trial import Trials, arguments, number, short, train  # noqa: E402

FORMS = "choices: [A, B, …], or uniform, log_uniform, int or log_int: [LOW, HIGH]"
PLOTS = ("optimization_history", "intermediate_values", "param_importances", "slice", "parallel_coordinate")


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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    space = read_space(options.space, Contract(module_class, data_class).headline)
    for values in space.samples():
        _check(module_class, data_class, fit + arguments(values))
    base = _check(module_class, data_class, fit)
    folder = Path(base["trainer.default_root_dir"] or "runs") / name
    try:
        trials = Trials(folder, space, options.storage, partial(train, module_class, data_class, fit))
        refuse_changes(trials, {key: base[key] for key in base if key not in CHANGEABLE - LIMITS})
        trials.work(options.trials)
        conclude(trials)
    except (OptunaError, SQLAlchemyError, ImportError, OSError) as error:  # the URL may hold a password
        cause: Any = error.__cause__ or error
        raise UserError(f"the sweep's folder or database can't be used: {reason(cause).rstrip('.')}.") from error
    except signals.Stopped as stop:
        print(f"stopped by {stop.name}; to go on: {PROGRAM} sweep {shlex.join(args)}", file=sys.stderr)
        return int(stop.code or 1)
    return 0


def _parse(args: list[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """Return the sweep's name, its own options, and those of `fit`."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} sweep",
        usage="%(prog)s [NAME] [--trials N] [--space FILE] [--storage URL] [options of fit, for every trial]",
        description="Search for better options. The same command again goes on with a sweep, or works on it beside"
        " others. runs/NAME (default: sweep) has the results, and the trials are runs/NAME-000 and so on.",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, help="trials in all (default: 20)")
    parser.add_argument("--space", type=Path, default=Path("configs/sweep.yaml"), help="default: configs/sweep.yaml")
    parser.add_argument("--storage", help="database, such as postgresql://user@host/base (default: runs/NAME/sweep.db)")
    named = bool(args) and not args[0].startswith("-")  # a later one could be the value of an option of fit
    options, fit = parser.parse_known_args(args[named:])
    return (args[0] if named else "sweep"), options, fit


class _CheckCLI(RunCLI):
    def _set_seed(self) -> None:
        """Do nothing: nothing is trained, and Lightning prints a line for it."""


def _check(module_class: type, data_class: type | None, fit: list[str]) -> dict[str, Any]:
    """Return all options of `fit` by their dotted names; a wrong one ends the process with 2."""
    return flat(_CheckCLI(module_class, data_class, ["fit", *fit], execute=False).options())


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

    def samples(self) -> Iterator[dict[str, Any]]:
        """Yield values of all options, so that each bound and each choice occurs."""
        values = {option: next(iter(form.values())) for option, form in self.space.items()}
        for i in range(max(map(len, values.values()))):
            yield {option: of[min(i, len(of) - 1)] for option, of in values.items()}

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


def refuse_changes(trials: Trials, options: dict[str, Any]) -> None:
    """Refuse to go on with another sweep than the one that was begun.

    Raises:
        UserError: The search space or an option differs, or the trials are in another folder.
    """
    file = trials.folder / "sweep.id"
    with trials.lock:
        if not file.is_file():
            write_whole(file, uuid4().hex)
        # without a common folder, a process would see neither the locks nor the checkpoints of the others
        now = {"the folder": file.read_text(encoding="utf-8"), **options, **trials.space.space}
        now |= {"metric": trials.space.metric, "direction": trials.space.direction}
        now = json.loads(json.dumps(now, default=str))
        begun = trials.study.user_attrs.get("begun", now)
        trials.study.set_user_attr("begun", begun)
    for key in sorted(now | begun):
        if now.get(key) != begun.get(key):
            raise UserError(
                f"the sweep {trials.folder.name} was begun with {key} {json.dumps(begun.get(key))}, and now it is"
                f" {json.dumps(now.get(key))}. Begin another one under a name of its own: sweep NAME"
            )


def conclude(trials: Trials) -> None:
    """Write the best trial's configuration and a page of plots, and say where they are.

    Raises:
        UserError: No trial is complete.
    """
    complete, pruned = trials.count(TrialState.COMPLETE), trials.count(TrialState.PRUNED)
    if not complete:
        raise UserError(f"none of the {pruned} trials has come to its end; all of them were pruned.")
    best = trials.study.best_trial
    file, page = trials.folder / "best.yaml", trials.folder / "sweep.html"
    score = f"{trials.space.metric} {best.value:.4f}"
    result = f"trial {number(best)}, {score}, of {complete} complete and {pruned} pruned"
    repeat = f"{PROGRAM} fit -c {relative_path(file)}"
    config = Run(trials.run_folder(best)).config_file.read_text(encoding="utf-8").partition("\n")[2]
    header = f"# The best of the sweep {trials.folder.name}: {result}\n# To train it again: {repeat}\n"
    write_whole(file, header + config)
    write_whole(page, _page(trials))
    values = "".join(f"\n    {name}: {short(value)}" for name, value in best.params.items())
    written = f"Its configuration: {relative_path(file)}\nPlots: {relative_path(page)}"
    print(f"\nBest: {result}{values}\n{written}\nNext: {repeat}")


def _page(trials: Trials) -> str:
    """The page with a table of the trials and Optuna's plots, which needs no network."""
    plots: dict[str, str] = {}
    for kind in PLOTS:
        extra: dict[str, Any] = {} if kind == "intermediate_values" else {"target_name": trials.space.metric}
        if kind == "param_importances":  # Optuna's default needs scikit-learn
            extra["evaluator"] = optuna.importance.PedAnovaImportanceEvaluator()
        with suppress(ValueError, RuntimeError):  # there is too little to show, such as a single trial
            figure = getattr(optuna.visualization, f"plot_{kind}")(trials.study, **extra)
            title = str(figure.layout.title.text)
            figure.update_layout(title=None, margin={"t": 30}, legend={"orientation": "h", "y": -0.2})
            # the script is in the page once
            plots[title] = figure.to_html(full_html=False, include_plotlyjs=not plots, config={"displaylogo": False})
    rows = {number(trial): trial for trial in trials.study.get_trials(deepcopy=False) if trial.params}
    template = Path(__file__).with_name("sweep.html.jinja").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    values = {"name": trials.folder.name, "metric": trials.space.metric, "options": list(trials.space.space)}
    return page.render(values, trials=rows, plots=plots, short=short)
