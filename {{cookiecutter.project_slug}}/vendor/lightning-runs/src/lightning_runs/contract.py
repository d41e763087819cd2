"""The contract: optional names of the user's classes that the library reads, one Protocol per role; it reads no others.

The checks of `Contract` are generated from the Protocols.
"""
# pyright: reportReturnType=false

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal, Protocol, TypedDict

from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from .errors import UserError, brief
from .names import program


class ConfigurableData(Protocol):
    """Argument of the LightningDataModule."""

    seed: Annotated[int, "Seed of the split and the order; follows ``seed_everything``."]
    batch_size: Annotated[int, "Items per step per device."]
    num_workers: Annotated[int, "Processes that load batches; a resumed run may change their number."]
    fold: Annotated[int | None, "Part for validation, from 0, which ``repeat --folds`` sets; None trains on all parts."]
    num_folds: Annotated[int | None, "Number of parts that take turns in validation; it comes with ``fold``."]
    predict_paths: Annotated[list[str] | None, "Paths of ``predict PATH``; ``predict_dataloader`` yields their items."]


class DescribedData(Protocol):
    """Attribute or method of the LightningDataModule."""

    class_names: Annotated[Sequence[str], "Name of each class, by number, for predictions and exported files."]

    def fingerprint(self) -> str:
        """Return the version of the data; a run is not resumed on another one."""

    def baseline(self) -> Mapping[str, Mapping[str, float]]:
        """Return what simple models reach, ``{name: {metric: value}}``, for the report."""


Headline = tuple[str, Literal["max", "min"], str]


class ReportingModule(Protocol):
    """Attribute or method of the LightningModule."""

    headline: Annotated[Headline, "Main metric: its name without a split, ``max`` or ``min``, and its unit, as ``%``."]

    def rows(self, predictions: "Prediction", data: Any) -> tuple[list[str], list[list[Any]]]:
        """Return the column names and rows of the table that ``predict`` writes."""

    def show(self, outputs: list[Any], batch: Any, data: Any) -> Mapping[str, Any]:
        """Return pictures, ``{name: PIL image}``, from the outputs of all steps and the first batch."""

    def sections(self, predictions: "Prediction", data: Any) -> Sequence[tuple[str, Any]]:
        """Return sections of the report, ``(title, HTML)``; a function that returns the HTML may fail alone."""

    def exported(self) -> nn.Module:
        """Return the module that ``export`` writes, from raw inputs to outputs; without it, that is ``forward``."""

    def layer_groups(self) -> Sequence[Sequence[nn.Module]]:
        """Return the layers from the input to the output, in the groups that fine-tuning unfreezes."""


class ExportedNetwork(Protocol):
    """Attribute of the module that ``exported`` returns."""

    facts: Annotated[Mapping[str, Any], "Plain values for the exported files, such as the keys below."]


class Facts(TypedDict, total=False):
    """Key of ``facts``, beside those that the reader of its kind takes."""

    kind: Annotated[str, "Reader of new inputs without torch: ``images``, ``rows``, ``texts`` or ``masks``."]
    class_names: Annotated[Sequence[str], "Name of each class, by number."]


class Prediction(TypedDict, total=False):
    """Key of the dict that ``predict_step`` returns, with an entry for each item; other keys become columns."""

    index: Annotated[Tensor, "Number of each item, ``(N,)``, by which the predictions are sorted."]
    probabilities: Annotated[Tensor, "Probabilities of the classes, ``(N, num_classes)``, shown by the classes' names."]
    prediction: Annotated[Tensor, "Predicted values, ``(N, …)``; a tensor that is returned alone has this name."]


class FixedItems(Protocol):
    """Attribute of a data set."""

    draws_nothing: Annotated[bool, "Whether items are the same whenever they are read, so that batches need no seeds."]


ROLES = (ConfigurableData, DescribedData, ReportingModule, ExportedNetwork, Facts, Prediction, FixedItems)
METHODS = {name: form for role in ROLES for name, form in vars(role).items() if name[0] != "_" and callable(form)}
NAMES = {name for role in ROLES for name in role.__annotations__} | METHODS.keys()


class Contract:
    """The names of the contract that a LightningModule and a LightningDataModule have, or the first alone."""

    def __init__(self, module_class: type, data_class: type | None) -> None:
        for given, base in ((module_class, LightningModule), (data_class, LightningDataModule)):
            if given is not None and not (isinstance(given, type) and issubclass(given, base)):
                raise UserError(f"train.py passes {given!r} to run; it must be a {base.__name__} of pytorch_lightning.")
        self.module_class = module_class
        self.data_class = data_class
        self._classes = [owner for owner in (module_class, data_class) if owner is not None]
        self.headline = get("headline", *self._classes)
        mistake = next(self._mistakes(), None)
        if mistake is not None:
            raise UserError(f"{mistake}. `{program()} docs own-classes` shows one.")

    def has(self, name: str) -> bool:
        """Return whether one of the classes has a name of the contract."""
        if name in ConfigurableData.__annotations__:
            return name in _arguments(self.data_class)
        return any(hasattr(owner, name) for owner in self._classes)

    @cached_property
    def linked(self) -> list[str]:
        """Arguments of the LightningModule that have the name of a property of the data module."""
        names = [name for name in _arguments(self.module_class) if not hasattr(LightningDataModule, name)]
        found = {name: inspect.getattr_static(self.data_class, name, None) for name in names}
        return [name for name, value in found.items() if value is not None and not callable(value)]

    def _mistakes(self) -> Iterator[str]:
        for owner, name in product(self._classes, METHODS):
            count = len(inspect.signature(METHODS[name]).parameters)  # self is one of them
            try:
                inspect.signature(getattr(owner, name, METHODS[name])).bind(*[None] * count)
            except TypeError:  # of another signature, or not callable
                yield f"{owner.__name__}.{name} must be a method with {count - 1} arguments beside self"
        parts: Any = self.headline if isinstance(self.headline, tuple | list) else ()
        is_right = [type(part) for part in parts] == [str, str, str] and parts[1] in ("max", "min")
        if self.headline is not None and not (is_right and "/" not in parts[0]):
            form = 'such as ("accuracy", "max", "%"): a metric without a split, max or min, and a unit'
            yield f"headline is {self.headline!r}; it must be {form}"


def get(name: str, *owners: Any) -> Any:
    """Return a name of the contract from the first of modules, data modules or their classes that has it, or None."""
    assert name in NAMES, name
    found = (getattr(owner, name, None) for owner in owners)
    return next((value for value in found if value is not None), None)


def linked_value(name: str, links: dict[str, str], data: Any) -> Any:
    """Return the value of a model's argument: that of ``links`` as text, or else that of the data module's property."""
    if name not in links:
        value = _property_value(name, data)
        links[name] = repr(value.tolist() if hasattr(value, "tolist") else value)  # such as a number of NumPy
    try:
        return ast.literal_eval(links[name])
    except (ValueError, SyntaxError) as error:
        raise UserError(
            f"the model's argument {name} is the data module's property of that name, a"
            f" {type(getattr(data, name)).__name__}. It must be a number, a text, or a list, tuple or dict of these."
        ) from error


def _property_value(name: str, data: Any) -> Any:
    with suppress(Exception):  # it may need what `setup` reads
        return getattr(data, name)
    try:
        data.prepare_data()
        data.setup("fit")
        return getattr(data, name)
    except UserError:  # such as files that are missing
        raise
    except Exception as error:
        raise UserError(
            f"the data module's property {name} failed: {brief(error)}. The model needs its value before there is a"
            " Trainer. Set what it reads in __init__, prepare_data or setup('fit')."
        ) from error


def _arguments(owner: type | None) -> list[str]:
    names = [] if owner is None else inspect.signature(owner).parameters
    return [name for name in names if name not in ("args", "kwargs")]
