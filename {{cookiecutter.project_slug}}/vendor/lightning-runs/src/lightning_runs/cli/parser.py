"""The parser of the command line, with short messages, and a filter for what Lightning prints in every run."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from .. import names
from ..errors import Mistake, UserError, reason
from ..runs.options import CALLBACK_GROUPS, flat
from . import help_text, interpolation
from .messages import parser_message

_OFF = re.compile(rf"(?<![^\0])(--(?:{'|'.join(CALLBACK_GROUPS)}))[=\0]null(?![^\0])")  # in arguments between \0


# else a callback with an Enum among its defaults, such as Lightning's Timer, could not be written to config.yaml
yaml.SafeDumper.add_multi_representer(enum.Enum, lambda dumper, value: dumper.represent_data(value.value))
register_type(torch.device, str, torch.device)  # … nor one with a device, such as StochasticWeightAveraging


class Parser(LightningArgumentParser):
    """Lightning's parser, which takes no abbreviated option, and whose help and messages are short.

    Args:
        whole: Print Lightning's own help.
        kwargs: Those of Lightning's parser.
    """

    files: ClassVar[dict[str, Path]] = {}  # the configuration file that an option is from, by its name

    def __init__(self, whole: bool = False, **kwargs: Any) -> None:
        # else `--trainer.max_epoch 3` would be taken for `--trainer.max_epochs 3`, and any new option could break it
        super().__init__(allow_abbrev=False, **kwargs)
        self.whole = whole
        self.texts: dict[interpolation.Path, str] = {}  # with ${, by the places of their options

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:
        """Return the options of a command line; ``null`` turns a named callback off."""
        if args:  # `--early_stopping null`, which jsonargparse would take for a file
            args = _OFF.sub(r"\1.monitor=null", "\0".join(args)).split("\0")
        for option, value in pairwise(["", *(args or ())]):
            file = value if option in ("-c", "--config") else value.partition("--config=")[2]
            with suppress(OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):  # which are told below
                self._prepare(yaml.safe_load(Path(file).read_text(encoding="utf-8")))
        try:
            config = super().parse_args(args, *more, **kwargs)
        except Exception as error:
            if not type(error).__module__.startswith("omegaconf"):
                raise
            self.error(f"a value of a configuration file can't be filled in: {reason(error)}.")
        for name in CALLBACK_GROUPS if "subcommand" in config else ():
            if config[config.subcommand][name] is None:  # `early_stopping: null` in a file
                config[config.subcommand][name] = Namespace(monitor=None)
        return config

    def print_help(self, file: Any = None) -> None:
        program = self.prog.replace(" [options]", "")
        if self.whole or not program.startswith(names.program()):  # the parser of a class that an option names
            super().print_help(file)
        else:
            print(help_text.short(self, program), end="", file=file)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the options of a configuration file, once it is checked."""
        self.check_config(Path(path))
        return super().parse_path(path, *args, **kwargs)

    def check_config(self, file: Path) -> None:
        """End the process if a configuration file is not YAML with options."""
        try:
            options = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f" in line {mark.line + 1}" if mark else ""
            self.error(f"{file} is not YAML: {getattr(error, 'problem', None) or reason(error)}{line}.")
        if not isinstance(options, dict):
            self.error(f"{file} holds no options. Write them as in configs/default.yaml.")
        self._prepare(options)
        self.files.update(dict.fromkeys(flat(options), file))
        for name, value in options.items():
            group = any(option.startswith(f"--{name}.") for option in self._options())
            if value is None and name in ("model", "trainer"):  # `data` is null where there is no data module
                self.error(f"{name} is empty in {file}. Write options below it, or remove the line.")
            if group and not isinstance(value, dict | str | None):  # a string is the path of a file with the options
                self.error(f"{name} is {value!r} in {file}; it must hold options, as in configs/default.yaml.")

    def _prepare(self, options: Any) -> None:
        """Have OmegaConf fill in references of a configuration file, if it has any."""
        if texts := dict(interpolation.references(options)):
            try:
                interpolation.turn_on()
            except UserError as error:
                self.error(f"{next(iter(texts.values()))} in a configuration file: {error}")
            self.parser_mode = "omegaconf+"
            self.texts.update(texts)

    def _options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong with the command, and end it by ``Mistake``."""
        parser = getattr(ex, "subcommand_parser", None) or self
        options, program = parser._options(), parser.prog.replace(" [options]", "")
        if not program.startswith("python"):  # the parser of a class that an option names
            options = [option.lstrip("-") for option in options]
            program = f"{names.program()} fit"
        text = parser_message(message, options, self.files)
        print(f"error: {text}\nAll options: {program} --help all", file=sys.stderr)
        raise Mistake(text)
