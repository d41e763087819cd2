"""The two classes of a command: those of ``train.py``, or others that the configuration or options name.

Later wins: ``train.py``, ``configs/default.yaml``, files of ``-c``, the options ``--model CLASS`` and ``--data CLASS``.
The parser is made for the classes that are found, so their options are groups as those of ``train.py``'s classes are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Path as ConfigPath
from jsonargparse import get_loader
from pytorch_lightning import LightningDataModule, LightningModule

from ..errors import UserError
from ..training.loggers import CLASSES, given_options
from . import arguments
from .messages import parser_message

BASES = {"model": LightningModule, "data": LightningDataModule}
FILES = (".yaml", ".yml", ".json")  # what a file with the options of one class ends with
Classes = tuple[type, type | None]


class OtherClassesError(Exception):
    """The run of this command was trained with other classes, which are the arguments."""


def chosen(args: Sequence[str], classes: Classes, default: Path | None = None) -> Classes:
    """Return the classes that a configuration file and a command line name; others stay as they are given."""
    files = [] if default is None else [f"--config={default}"]
    for option, value, _ in arguments.options([*files, *args]):
        if option in ("-c", "--config"):
            classes = of_file(Path(value), classes)
        elif option in ("--model", "--data", "--model.class_path", "--data.class_path"):
            classes = _named_in({option.lstrip("-").partition(".")[0]: value}, Path(), classes)
    return classes


def of_file(file: Path, classes: Classes) -> Classes:
    """Return the classes that a configuration file names; others stay as they are given."""
    return _named_in(_read(file), file.parent, classes)


def without_names(args: Sequence[str]) -> list[str]:
    """Return a command line without the names of classes, and with the options of each class in its group."""
    kept: list[str] = []
    for option, value, words in arguments.options(args):
        group, _, rest = option.removeprefix("--").partition(".")
        if option.startswith(("--logger", "--trainer.logger")):
            if option.endswith("logger") and not value.startswith("["):
                value = f"[{_logger('none' if value == 'false' else value, args)}]"
            kept += [] if option.endswith(".save_dir") else [f"{option.replace('trainer.', '')}={value}"]
        elif group not in BASES:
            kept += words
        elif not rest and not isinstance(_part(value, Path()), str):
            for name, one in _own(_part(value, Path())).items():
                kept.append(f"--{group}.{name}={one if isinstance(one, str) else json.dumps(one)}")
        elif rest not in ("", "class_path"):
            kept.append(f"--{group}.{rest.removeprefix('init_args.')}={value}")
    return kept


def options_of_groups(options: Any, folder: Path, classes: Classes, owners: Classes) -> Any:
    """Return the options of a file in a folder, without those of other classes than those in use.

    Each group is options of its owner, ``{class_path, init_args}``, the name of a class, or a file with one of these.
    """
    for group, owner, unnamed in zip(BASES, classes, owners, strict=True):
        if not isinstance(options, dict) or group not in options:
            continue
        value = _part(options[group], folder)
        name = _name(value)
        is_own = (load(group, name) if name else unnamed) is owner
        options = options | {group: _own(value) if is_own else {}}
    return options


def with_loggers(options: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """Return the options of a file with a list of loggers, also those of ``trainer.logger``, without their folders."""
    trainer = options.get("trainer")
    if isinstance(trainer, dict) and trainer.get("logger") not in (None, True):
        options["logger"] = trainer.pop("logger") or "none"
    if not options.get("logger"):
        return options
    found = options["logger"] if isinstance(options["logger"], list) else [options["logger"]]
    for one in found:
        if isinstance(one, dict):
            (one.get("init_args") or one).pop("save_dir", None)
    return options | {"logger": [_logger(one, args) for one in found]}


def _logger(value: Any, args: Sequence[str]) -> Any:
    """Return the class of a logger instead of its name, if the command line has options for it."""
    has_options = any(argument.startswith(("--logger.", "--trainer.logger.")) for argument in args)
    return path_of(CLASSES[value]) if has_options and isinstance(value, str) and value in CLASSES else value


def written(options: dict[str, Any], classes: Classes, defaults: Classes) -> dict[str, Any]:
    """Return options as ``config.yaml`` has them: a class is named if it is not that of ``train.py``."""
    for group, owner, default in zip(BASES, classes, defaults, strict=True):
        if owner is not None and owner is not default:
            options[group] = {"class_path": path_of(owner), "init_args": options.get(group) or {}}
    for number, logger in enumerate(options["logger"]):
        if isinstance(logger, dict):
            given = given_options(resolve_name(logger["class_path"]), logger["init_args"])
            options["logger"][number] = {"class_path": logger["class_path"], "init_args": given}
    return options | {"logger": options["logger"][0] if len(options["logger"]) == 1 else options["logger"]}


def load(group: str, path: str) -> type:
    """Import a class by its path."""
    try:
        found = resolve_name(path.replace("lightning.pytorch.", "pytorch_lightning."))
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise UserError(f"--{group} is {path}; give package.module.Class: {parser_message(str(error), ())}") from error
    if not isinstance(found, type) or not issubclass(found, BASES[group]):
        raise UserError(f"--{group} is {path}; it must be a {BASES[group].__name__} of pytorch_lightning.")
    return found


def path_of(owner: type | None) -> str:
    """Return the path that a class is imported by."""
    return "no class" if owner is None else f"{owner.__module__}.{owner.__qualname__}"


def _named_in(options: Any, folder: Path, classes: Classes) -> Classes:
    names = [_name(_part(options.get(group), folder)) if isinstance(options, dict) else None for group in BASES]
    pairs = zip(BASES, names, classes, strict=True)
    module_class, data_class = [load(group, name) if name else owner for group, name, owner in pairs]
    return module_class, data_class  # type: ignore[return-value]


def _name(value: Any) -> str | None:
    name = value.get("class_path") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) else None


def _own(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_path" in value:
        return value.get("init_args") or {}
    return {} if isinstance(value, str) else value


def _part(value: Any, folder: Path) -> Any:
    """Return the options of one class from a file or from YAML in a text, or else the value itself."""
    if isinstance(value, str) and value.endswith(FILES):
        value = _read(folder / value) or value
        if isinstance(value, str):
            raise UserError(f"{folder / value} can't be read as a file of options.")
    return get_loader("yaml")(value) if isinstance(value, str) and (": " in value or value[:1] == "{") else value


def _read(file: Path) -> Any:
    try:
        # relative to the configuration file that is being parsed, or else to the working folder
        return get_loader("yaml")(Path(ConfigPath(str(file), "fr")).read_text(encoding="utf-8"))
    except Exception:  # the parser refuses the file in a sentence
        return None
