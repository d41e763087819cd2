"""What a sweep searches: ``configs/sweep.yaml``, read and checked before the first trial."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from ..cli.messages import parser_message
from ..errors import UserError, require

require("sweep", "optuna")
import optuna  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

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
    """Read a search space; a file without a metric takes the contract's headline.

    Raises:
        UserError: The file can't be read, or a key is missing or wrong.
    """
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


def refusal(text: str, values: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return why the parser of `fit` refuses values, with the whole name of an option that it doesn't have."""
    for option in values.keys() - options.keys():
        name = option.rpartition(".")[2]
        if text.startswith("there is no option") and name in text:
            same_ending = [other for other in options if other.rpartition(".")[2] == name]
            similar = same_ending or difflib.get_close_matches(option, options, n=2)
            return f"there is no option {option}. Similar options: {', '.join(similar) or 'none'}."
    return text
