"""The parser of the command line, with short messages, and a filter for what Lightning prints in every run."""

from __future__ import annotations

import difflib
import enum
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import register_type
from pytorch_lightning.cli import LightningArgumentParser

from . import help, interpolation
from .checkpoints import flat
from .commands import NAMED, PROGRAM
from .errors import Mistake, UserError, reason

_OFF = re.compile(rf"(?<![^\0])(--(?:{'|'.join(NAMED)}))[=\0]null(?![^\0])")  # in arguments with \0 between them


def parser_message(message: str, options: Iterable[str], files: Mapping[str, object] | None = None) -> str:
    """Condense an error of the command-line parser to at most four lines.

    Args:
        message: The parser's text, which may run over dozens of lines (one for every type that was tried).
        options: The options that exist, such as ``--trainer.max_epochs``, from which a misspelt one is guessed.
        files: The configuration file that an option is from, by its name.
    """
    if linked := re.search(r'Linked "([\w.]+)" must be given', message):
        name = linked.group(1)
        follows = "--seed_everything" if name == "data.seed" else f"the data module's {name.rpartition('.')[2]}"
        return f"--{name} can't be set: it follows {follows}."
    if unknown := re.search(r"(?:[Uu]nrecognized arguments: |does not accept option '|^Option ')([^\s']+)", message):
        given = unknown.group(1).split("=")[0]
        names = {option.lstrip("-"): option for option in options}
        near = difflib.get_close_matches(given.lstrip("-").removesuffix("+"), list(names), n=2, cutoff=0.6)
        guess = f" Did you mean {' or '.join(names[name] for name in near)}?" if near else ""
        file = next((file for name, file in (files or {}).items() if f"{name}.".startswith(f"{given}.")), None)
        return f"there is no option {given}{f' ({file} has it)' if file else ''}.{guess}"
    if missing := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return f"there is no {missing.group(2)} in {missing.group(1)}; give the class as package.module.Class."
    option = re.match(r'Parser key "([\w.]+)":', message)
    expected = re.findall(r"Expected an? (.+?)(?=\. Got value: |\n|$)", message)
    given = re.search(r"(?:\. Got value: |\n *Given value: )(.*)", message, re.DOTALL)
    if option and expected and given:
        words = [_type_in_words(text) for text in expected if "either not accessible" not in text]
        return f"--{option.group(1)} is {given.group(1)!r}; it must be {' or '.join(dict.fromkeys(words))}."
    # What is wrong stands in the first and the innermost lines; between them is the list of types that were tried.
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    causes = [line for line in lines[1:] if not line.startswith(("Previous ", "- Raised", "Given value"))]
    kept = lines[:1] + causes[-2:]
    return "\n".join(line if len(line) <= 300 else line[:297] + "..." for line in kept)


def _type_in_words(expected: str) -> str:
    if expected.startswith("dot import path"):
        return "a class, given as package.module.Class"
    if choices := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", expected):
        return f"one of {choices.group(1)}"
    return re.sub(r"^<class '([\w.]+)'>$", r"a value of type \1", expected.replace("<class 'NoneType'>", "null"))


# What Lightning says in every run: which accelerators exist, how it loads things, advertisements.
CHATTER = (
    *("GPU available", "TPU available", "HPU available", "\N{ELECTRIC LIGHT BULB} Tip", "`Trainer", "`weights_only`"),
    *("Seed set to", "Trainer already configured with model summary", "Loading `", "Restoring ", "Restored "),
    "Loaded model weights",
)
LOGS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")
WARNINGS = (
    ".*does not have many workers",  # data in memory needs no worker processes
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its folder
    "The dirpath has changed from",  # a run's folder was moved, which ExactResume knows
    ".*add the following callbacks: .*(ExactResume|WeightAveraging)",  # which an evaluation does not need
    "The `srun` command is available",  # a job that needs srun and was started without is refused
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what Lightning tells every user in every run. Its warnings of mistakes stay, each a sentence alone."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(CHATTER)

    logs = [logging.getLogger(name) for name in LOGS]
    for log in logs:
        log.addFilter(is_news)
    as_text, warnings.formatwarning = warnings.formatwarning, lambda message, *_, **__: f"warning: {message}\n"
    with warnings.catch_warnings():
        for message in WARNINGS:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            warnings.formatwarning = as_text
            for log in logs:
                log.removeFilter(is_news)


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
        for name in NAMED if "subcommand" in config else ():
            if config[config.subcommand][name] is None:  # `early_stopping: null` in a file
                config[config.subcommand][name] = Namespace(monitor=None)
        return config

    def print_help(self, file: Any = None) -> None:
        program = self.prog.replace(" [options]", "")
        if self.whole or not program.startswith(PROGRAM):  # the parser of a class that an option names
            super().print_help(file)
        else:
            print(help.short(self, program), end="", file=file)

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
            program = f"{PROGRAM} fit"
        text = parser_message(message, options, self.files)
        print(f"error: {text}\nAll options: {program} --help all", file=sys.stderr)
        raise Mistake(text)
