"""The parser of the command line: Lightning's, with checked configuration files, short help and short messages."""

import enum
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import Namespace, get_loader
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from ..errors import Mistake, reason, require
from ..names import program
from ..runs.options import CALLBACK_GROUPS, flat
from . import help_text
from .messages import parser_message

# StochasticWeightAveraging has a device among its options. jsonargparse can't forget a type, and nothing else needs to.
register_type(torch.device, str, torch.device)


def installed_names(text: str) -> str:
    """Return a text with class paths as in Lightning's documentation, ``lightning.pytorch.…``, as they are here."""
    return re.sub(r"(?<![\w.])lightning\.pytorch\.", "pytorch_lightning.", text)


def with_references(options: Any, unresolved: Any) -> Any:
    """Return plain options with the references of the same options before they were filled in, so no secret is kept."""
    if isinstance(options, dict) and isinstance(unresolved, dict):
        return {name: with_references(value, unresolved.get(name)) for name, value in options.items()}
    if isinstance(options, list) and isinstance(unresolved, list):
        return [with_references(value, text) for value, text in zip(options, unresolved, strict=True)]
    return unresolved if isinstance(unresolved, str) and "${" in unresolved else options


class Parser(LightningArgumentParser):
    """Lightning's parser, which takes no abbreviated option, and whose help and messages are short."""

    def __init__(self, **kwargs: Any) -> None:
        # otherwise `--trainer.max_epoch 3` would be `--trainer.max_epochs 3`, and any new option could break it
        super().__init__(allow_abbrev=False, **kwargs)
        self.command = self  # the parser of the command that is given
        self.lists_all_options = False  # whether the help is Lightning's own
        self.lacks_options = False  # whether options that are required may be missing
        self.origins: dict[str, tuple[Path, Any]] = {}  # the configuration file that sets an option, and its value
        self.unresolved: dict[str, Any] = {}  # the options before OmegaConf filled in their references
        # changes the options of a file to those of the classes in use
        self.choose: Callable[[Any, Path, bool], Any] = lambda options, folder, is_default: options
        self.named: Callable[[Any], Any] | None = None  # adds the names of classes to printed options

    def check_file(self, file: Path) -> None:
        """Check a configuration file, and have OmegaConf fill in its references."""
        try:
            options = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            self.error(f"{file} can't be read: {error.strerror}.")
        except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f" in line {mark.line + 1}" if mark else ""
            self.error(f"{file} is not valid YAML: {getattr(error, 'problem', None) or reason(error)}{line}.")
        if not isinstance(options, dict):
            self.error(f"{file} has no options. Write them as in configs/default.yaml.")
        for name, value in options.items():
            is_group = any(option.startswith(f"--{name}.") for option in self.command.option_names())
            is_off = value is None and name in ("data", *CALLBACK_GROUPS)
            if is_group and not is_off and not isinstance(value, dict | list | str):  # a text may name a file
                self.error(f"in {file}, {name} is {value!r}; it must have options, as in configs/default.yaml.")
        if "${" in str(options):
            require("interpolate", "omegaconf")
            self.parser_mode = "omegaconf+"
        chosen = flat(self.command.choose(options, file.parent, False))
        self.origins.update({name: (file, value) for name, value in chosen.items()})

    def parse(self, args: Sequence[str]) -> Namespace:
        """Return the options of a command line; ``null`` turns a named callback off."""
        self.unresolved = {}
        off = {f"--{name}=null": f"--{name}.monitor=null" for name in CALLBACK_GROUPS}
        try:
            config = self.parse_args([off.get(argument, installed_names(argument)) for argument in args])
        except Exception as error:
            if not type(error).__module__.startswith("omegaconf"):
                raise
            self.error(f"a value of a configuration file can't be filled in: {reason(error)}.")
        options = config[config.subcommand]
        for name in CALLBACK_GROUPS:
            if options[name] is None:
                options[name] = Namespace(monitor=None)
        return config

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return options as YAML, with values instead of references."""
        # YAML knows no Enum, and a callback may have one among its defaults, such as Lightning's Timer
        representers = yaml.SafeDumper.yaml_multi_representers
        represent = {enum.Enum: lambda dumper, value: dumper.represent_data(value.value)}
        yaml.SafeDumper.yaml_multi_representers = {**representers, **represent}
        try:
            text = super().dump(*args, **kwargs)
        finally:
            yaml.SafeDumper.yaml_multi_representers = representers
        if self.named is not None:
            return yaml.safe_dump(self.named(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)
        if "${" not in text or self.command is self:
            return text
        from omegaconf import OmegaConf

        # jsonargparse calls this to fill them in, and would look for their names beside that of the command
        self.unresolved = yaml.safe_load(text)
        nodes = {command: OmegaConf.create(options) for command, options in self.unresolved.items()}
        return yaml.safe_dump({command: OmegaConf.to_container(node, resolve=True) for command, node in nodes.items()})

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Check options, and unless ``lacks_options`` that none is missing."""
        try:
            super().validate(*args, **kwargs | ({"skip_required": True} if self.lacks_options else {}))
        except TypeError as error:
            if self.lacks_options:
                raise
            self.error(str(error))

    def _load_config_parser_mode(self, text: str, path: Any = "", *args: Any, **kwargs: Any) -> Any:
        """Load the text of a configuration file, with the options of the classes in use."""
        text = installed_names(text)
        if re.search(r"^\W*(model|data|logger)\W", text, flags=re.MULTILINE):
            is_default = not path  # jsonargparse names no other file
            text = json.dumps(self.choose(get_loader("yaml")(text), Path(), is_default), default=str)
        return super()._load_config_parser_mode(text, path, *args, **kwargs)

    def option_names(self) -> list[str]:
        """Return all options, such as ``--trainer.max_epochs``."""
        return [option for action in self._actions for option in action.option_strings]

    @property
    def called_as(self) -> str:
        """What a user types before the options."""
        return self.prog.replace(" [options]", "")

    def print_help(self, file: Any = None) -> None:
        """Print the short help of a command, or all that Lightning knows."""
        if self.lists_all_options or not self.called_as.startswith(program()):  # the parser of an option's class
            super().print_help(file)
        else:
            print(help_text.short(self, self.called_as), end="", file=file)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong with the command, and end it by `Mistake`."""
        text = parser_message(message, self.command.option_names())
        for name, (file, value) in self.origins.items():
            text = text.replace(f"there is no option {name}.", f"{file} sets {name}, which is not an option.")
            text = text.replace(f"--{name} is {str(value)!r};", f"in {file}, {name} is {str(value)!r};")
        is_of_class = not self.command.called_as.startswith(program())
        called_as = f"{program()} fit" if is_of_class else self.command.called_as
        print(f"error: {text}\nAll options: {called_as} --help all", file=sys.stderr)
        raise Mistake(text)
