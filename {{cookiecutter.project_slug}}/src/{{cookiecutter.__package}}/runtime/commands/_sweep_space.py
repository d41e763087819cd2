"""The search space of a sweep: ``configs/sweep.yaml``, read and checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import UserError, reason

_KINDS = ("choices", "uniform", "log_uniform", "int", "log_int")
_FORMS = "one of choices: [A, B, …], uniform: [LOW, HIGH], log_uniform, int or log_int"
# Options of a call, or ones that the sweep gives each trial itself.
_NOT_SEARCHED = ("config", "run", "resume", "ckpt_path", "trainer.default_root_dir", "trainer.fast_dev_run")


@dataclass(frozen=True)
class Space:
    """What is searched, and by which measure.

    Args:
        file: Where it was read.
        metric: The metric that is to become best, as it is logged after each epoch.
        direction: ``maximize`` or ``minimize``.
        sampler: An Optuna sampler, as ``class_path`` and ``init_args``; None is Optuna's own choice.
        pruner: An Optuna pruner in the same form; None ends no trial early.
        options: For each option of ``fit`` its kind and the two bounds, or the choices.
    """

    file: Path
    metric: str
    direction: Literal["maximize", "minimize"]
    sampler: dict[str, Any] | None
    pruner: dict[str, Any] | None
    options: dict[str, tuple[str, list[Any]]]

    def samples(self) -> list[dict[str, Any]]:
        """Values of all options, so that each bound and each choice occurs once at least."""
        longest = max(len(values) for _, values in self.options.values())
        return [{name: v[min(i, len(v) - 1)] for name, (_, v) in self.options.items()} for i in range(longest)]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Let Optuna's trial choose a value for each option; the same ones again if it has chosen before."""
        return {name: self._suggest(trial, name, *values) for name, values in self.options.items()}

    @staticmethod
    def _suggest(trial: Any, name: str, kind: str, values: list[Any]) -> Any:
        if kind == "choices":
            return trial.suggest_categorical(name, values)
        suggest = trial.suggest_int if kind.endswith("int") else trial.suggest_float
        return suggest(name, values[0], values[1], log=kind.startswith("log_"))

    def build(self, part: str) -> Any:
        """Build Optuna's sampler or pruner.

        Args:
            part: ``sampler`` or ``pruner``.

        Raises:
            UserError: Optuna has no such class, or the class takes no such arguments.
        """
        import optuna

        wanted, home = getattr(self, part), getattr(optuna, f"{part}s")
        if wanted is None:
            return None if part == "sampler" else optuna.pruners.NopPruner()
        module, _, name = str(wanted.get("class_path")).rpartition(".")
        if module not in ("", f"optuna.{part}s") or not isinstance(getattr(home, name, None), type):
            raise UserError(
                f"{part}.class_path is {wanted.get('class_path')!r} in {self.file}; it must be a class of"
                f" optuna.{part}s, such as optuna.{part}s.{'TPESampler' if part == 'sampler' else 'MedianPruner'}."
            )
        try:
            return getattr(home, name)(**(wanted.get("init_args") or {}))
        except (TypeError, ValueError, ImportError) as error:
            raise UserError(f"{part} in {self.file} can't be built: {reason(error)}.") from error


def arguments(values: dict[str, Any]) -> list[str]:
    """Options of the command line that set these values."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return [f"--{name}={text}" for name, text in texts.items()]


def read(file: Path) -> Space:
    """Read a search space.

    Raises:
        UserError: The file is missing, is not YAML, or does not hold what it should.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{file} is not YAML: {getattr(error, 'problem', None) or reason(error)}{line}.") from error
    except OSError as error:
        raise UserError(
            f"the search space {file} can't be read: {error.strerror}. Name another: --space FILE"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("space"), dict) or not content["space"]:
        raise UserError(f"{file} has no search space: under space: it must name options, each with {_FORMS}.")
    known = ("metric", "direction", "sampler", "pruner", "space")
    if unknown := [name for name in content if name not in known]:
        raise UserError(f"{file} has {unknown[0]}, which means nothing there; it may have {', '.join(known)}.")
    for part in ("sampler", "pruner"):
        if not isinstance(content.get(part), dict | None):
            raise UserError(f"{part} is {content[part]!r} in {file}; it must have a class_path, or be null.")
    direction = content.get("direction", "maximize")
    if direction not in ("maximize", "minimize"):
        raise UserError(f"direction is {direction!r} in {file}; it must be maximize or minimize.")
    return Space(
        file=file,
        metric=str(content.get("metric", "val/accuracy")),
        direction=direction,
        sampler=content.get("sampler"),
        pruner=content.get("pruner"),
        options={str(name): _option(file, str(name), form) for name, form in content["space"].items()},
    )


def _option(file: Path, name: str, form: Any) -> tuple[str, list[Any]]:
    from ..parser import LINKED  # which imports torch and Lightning

    if name in (*_NOT_SEARCHED, *LINKED):
        raise UserError(f"{name} can't be searched ({file}): it is set by the sweep, or follows other options.")
    refusal = UserError(f"{name} is {form!r} in {file}; it must have {_FORMS}.")
    if not isinstance(form, dict) or len(form) != 1:
        raise refusal
    ((kind, values),) = form.items()
    if kind not in _KINDS or not isinstance(values, list) or not values:
        raise refusal
    if kind == "choices":
        if not all(isinstance(value, str | int | float | bool | None) for value in values):
            raise UserError(f"{name} has {values!r} to choose from in {file}; each must be a number, a text or null.")
        return kind, values
    types = int if kind.endswith("int") else int | float
    numbers = len(values) == 2 and all(isinstance(v, types) and not isinstance(v, bool) for v in values)
    if not numbers or not all(math.isfinite(v) for v in values) or values[0] > values[1]:
        what = "two whole numbers" if kind.endswith("int") else "two numbers (1e-4 is a text in YAML: write 1.0e-4)"
        raise UserError(f"{name} is {kind}: {values!r} in {file}; it must be {what}, the lower one first.")
    if kind.startswith("log_") and values[0] <= 0:
        raise UserError(f"{name} is {kind}: {values!r} in {file}; on a logarithmic scale both must be above 0.")
    return kind, values
