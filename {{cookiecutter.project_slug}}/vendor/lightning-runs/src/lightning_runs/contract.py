"""Reads the contract (see the docstring of this package): which of its names the project's classes have."""

from __future__ import annotations

import ast
import inspect
from functools import cached_property
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

from .errors import UserError

# Arguments of the data module, by which the command line tells it something.
ARGUMENTS = ("seed", "predict_paths", "fold", "num_folds")
# Methods, with their numbers of arguments beside self.
METHODS = {"fingerprint": 0, "baseline": 0, "rows": 2, "show": 3, "sections": 2, "exported": 0, "layer_groups": 0}
VALUES = ("class_names", "headline")
NAMES = (*ARGUMENTS, *METHODS, *VALUES)


class Contract:
    """What of the contract two classes offer.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule, or None.

    Raises:
        UserError: A name of the contract is there, but not in the form that it must have.
    """

    def __init__(self, module_class: type, data_class: type | None) -> None:
        for given, base in ((module_class, LightningModule), (data_class, LightningDataModule)):
            if given is not None and not (isinstance(given, type) and issubclass(given, base)):
                raise UserError(f"train.py gives {given!r} to runtime.main; it must be a {base.__name__}.")
        self.module_class = module_class
        self.data_class = data_class
        self._classes = [of for of in (module_class, data_class) if of is not None]
        self._check()

    def has(self, name: str) -> bool:
        """Whether one of the classes offers a name of the contract."""
        if name in ARGUMENTS:
            return name in _arguments(self.data_class)
        return any(hasattr(of, name) for of in self._classes)

    @property
    def headline(self) -> tuple[str, str, str] | None:
        """The metric that counts: its name without a split, ``max`` or ``min``, and its unit."""
        found = next((of.headline for of in self._classes if hasattr(of, "headline")), None)
        return None if found is None else (found[0], found[1], found[2])

    @cached_property
    def linked(self) -> list[str]:
        """Arguments of the LightningModule that have the name of a property of the data module."""
        base = set(dir(LightningDataModule))
        return [
            name for name in _arguments(self.module_class) if name not in base and _is_property(self.data_class, name)
        ]

    def _check(self) -> None:
        for name, count in METHODS.items():
            for of in self._classes:
                method = getattr(of, name, None)
                if method is not None and not _takes(method, count):
                    raise UserError(
                        f"{of.__name__}.{name} must be a method with {count} argument{'s' * (count != 1)} beside self."
                        " docs/own-code.md says what it gets."
                    )
        if self.has("fold") != self.has("num_folds"):
            there, missing = ("fold", "num_folds") if self.has("fold") else ("num_folds", "fold")
            raise UserError(f"the data module has the argument {there}, but not {missing}. Add it, or rename {there}.")
        if (found := self.headline) is not None and (found[1] not in ("max", "min") or "/" in found[0]):
            raise UserError(
                f"headline is {found!r}; it must be a metric's name without a split, max or min, and a unit, such as"
                ' ("accuracy", "max", "%").'
            )


def get(name: str, *owners: Any) -> Any:
    """The attribute or method of that name of the first owner that has it, or None.

    Args:
        name: A name of the contract.
        owners: The LightningModule and the data module, which may be None.
    """
    assert name in NAMES, name
    return next((found for of in owners if (found := getattr(of, name, None)) is not None), None)


def link(name: str, links: dict[str, str], data: Any) -> Any:
    """The value of a model's argument: the one that is known, or else that of the data module's property.

    Args:
        name: The argument's name.
        links: Known values as text; the one that is asked for is added.
        data: The data module.

    Raises:
        UserError: It is no plain value.
    """
    if name not in links:
        value = getattr(data, name)
        try:
            is_plain = ast.literal_eval(repr(value)) == value
        except (ValueError, SyntaxError):
            is_plain = False
        if not is_plain:
            raise UserError(
                f"the data module's {name} is a {type(value).__name__}. It fills an argument of the model, so it must"
                " be a plain value: a number, a text, or a list, tuple or dict of these."
            )
        links[name] = repr(value)
    return ast.literal_eval(links[name])


def _arguments(of: type | None) -> list[str]:
    return [] if of is None else [name for name in inspect.signature(of).parameters if name not in ("args", "kwargs")]


def _is_property(of: type | None, name: str) -> bool:
    found = inspect.getattr_static(of, name, None)
    return isinstance(found, property | cached_property) or (found is not None and not callable(found))


def _takes(method: Any, count: int) -> bool:
    if not callable(method):
        return False
    try:
        inspect.signature(method).bind(*[None] * (count + 1))
    except TypeError:
        return False
    return True
