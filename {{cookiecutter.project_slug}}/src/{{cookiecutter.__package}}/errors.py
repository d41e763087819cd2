"""What a user is told when something is wrong: one clear message, no traceback."""

from __future__ import annotations

import difflib
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException


class UserError(ValueError):
    """A mistake that the person at the keyboard can mend; `main` prints its text alone and exits with 1."""


def is_mistake(error: Exception) -> bool:
    """Whether an error says by itself what the user did wrong, so that a traceback would only hide it."""
    # Lightning's name for a wrong configuration, and a misspelt metric, for which it has no type of its own
    monitor = isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric")
    return isinstance(error, UserError | MisconfigurationException) or monitor


# Options that are worked out from others.
LINKED = {
    "model.num_classes": "it is the number of classes in the data",
    "model.input_shape": "it is the shape of the images in the data",
    "data.seed": "it follows --seed_everything",
}


def parser_message(message: str, options: Iterable[str]) -> str:
    """Condense an error of the command-line parser to at most four lines.

    Args:
        message: The parser's text, which may run over dozens of lines (one for every type that was tried).
        options: The options that exist, such as ``--trainer.max_epochs``, from which a misspelt one is guessed.
    """
    if linked := re.search(r'Linked "([\w.]+)" must be given', message):
        return f"--{linked.group(1)} can't be set: {LINKED[linked.group(1)]}."
    if unknown := re.search(r"[Uu]nrecognized arguments: (\S+)|does not accept option '([^']+)'", message):
        given = (unknown.group(1) or unknown.group(2)).split("=")[0]
        near = difflib.get_close_matches("--" + given.lstrip("-").removesuffix("+"), list(options), n=2, cutoff=0.6)
        return f"there is no option {given}." + (f" Did you mean {' or '.join(near)}?" if near else "")
    if value := re.fullmatch(r'Parser key "([\w.]+)":\s*Expected an? (.+)\. Got value: (.*)', message, re.DOTALL):
        option, expected, given = value.groups()
        expected = re.sub(r"^<class '([\w.]+)'>$", r"a value of type \1", expected)
        expected = re.sub(r"^(?:typing\.)?Literal\[(.*)\]$", r"one of \1", expected)
        return f"--{option} is {given!r}; it must be {expected}."
    # What is wrong stands in the first and the innermost lines; between them is the list of types that were tried.
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = [line for line in lines[1:] if not line.startswith(("Previous ", "- Raised", "Given value"))]
    shown = lines[:1] + told[-2:]
    return "\n".join(line if len(line) <= 300 else line[:297] + "..." for line in shown)


# What Lightning says in every run: which accelerators exist, how it loads things, advertisements.
CHATTER = (
    *("GPU available", "TPU available", "HPU available", "\N{ELECTRIC LIGHT BULB} Tip", "`Trainer", "`weights_only`"),
    *("Trainer already configured with model summary", "Loading `", "Restoring ", "Restored ", "Loaded model weights"),
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the screen what Lightning tells every user in every run; what may be a mistake stays."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(CHATTER)

    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    log.addFilter(is_news)
    with warnings.catch_warnings():
        # data in memory needs no worker processes
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # in the middle of an epoch, which data.BatchSampler can
        warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch ended.*")
        # a resumed run goes on in its folder
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        # on a cluster's login node; a job that needs srun and was started without is refused
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        # Lightning's own use of torch
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            yield
        finally:
            log.removeFilter(is_news)


class Parser(LightningArgumentParser):
    """Lightning's parser, which takes no abbreviated option and reports a mistake in a few lines."""

    def __init__(self, **kwargs: Any) -> None:
        # else `--trainer.max_epoch 3` would be taken for `--trainer.max_epochs 3`, and any new option could break it
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        options = [option for action in parser._actions for option in action.option_strings]
        program = parser.prog.replace(" [options]", "")
        print(f"error: {parser_message(message, options)}\nAll options: {program} --help", file=sys.stderr)
        self.exit(2)
