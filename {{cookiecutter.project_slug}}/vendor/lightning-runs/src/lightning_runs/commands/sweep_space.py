"""What a sweep searches: ``configs/sweep.yaml``, read and checked before the first trial."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ..cli.messages import parser_message
from ..errors import UserError, require

require("sweep", "optuna")
import optuna  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

FORMS = "choices: [A, B, …], or uniform, log_uniform, int or log_int: [LOW, HIGH]"


@dataclass
class Space:
    """What is searched, and by which measure: ``configs/sweep.yaml``.

    Raises:
        ValueError: An option has no such kind of values.
    """

    # for each option of `fit` the kind of its values, and their bounds or choices
    space: dict[str, dict[str, list[int | float | str | bool | None]]]
    metric: str | None = None  # as it is logged after each epoch; None is the contract's headline
    direction: Literal["maximize", "minimize"] | None = None  # which of its values are the best; None as the headline
    sampler: optuna.samplers.BaseSampler | None = None  # chooses the values; None is Optuna's own choice
    pruner: optuna.pruners.BasePruner | None = None  # ends a trial early; None ends none

    def __post_init__(self) -> None:
        self.distributions = {option: _distribution(option, form) for option, form in self.space.items()}

    def samples(self) -> Iterator[dict[str, Any]]:
        """Yield values of all options, so that each bound and each choice occurs."""
        values = {option: next(iter(form.values())) for option, form in self.space.items()}
        for i in range(max(map(len, values.values()))):
            yield {option: of[min(i, len(of) - 1)] for option, of in values.items()}


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
    """Read a search space; where it names no metric, the contract's headline is searched for.

    Raises:
        UserError: The file can't be read, or does not hold what it should.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Space)
    try:
        # the parser's own reader, in C, dies of a file that is nested too deeply
        with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
            yaml.safe_load(file.read_text(encoding="utf-8"))
        space = Space(**parser.instantiate_classes(parser.parse_path(file)))
    except (ArgumentError, OSError, TypeError, ValueError, RecursionError) as error:
        text = parser_message(str(error), ()).removeprefix("--")  # a key of the file is no option
        raise UserError(f"the search space {file} can't be used: {text}") from error
    if headline and space.metric in (None, f"val/{headline[0]}"):
        space.metric, space.direction = f"val/{headline[0]}", space.direction or f"{headline[1]}imize"  # type: ignore[assignment]
    for key in ("metric", "direction", "space"):
        if not getattr(space, key):
            raise UserError(f"the search space {file} has no {key}. Write it as in configs/sweep.yaml.")
    return space
