"""Command lines as lists of arguments: read, changed item by item, and given to Lightning's launcher."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

ONE_PROCESS = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto")  # whatever a run had


def options(args: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the options and other words of a command line, their values or "", and the arguments that they stand in."""
    is_value = False
    for argument, following in pairwise([*args, "--"]):
        option, equals, value = argument.partition("=")
        if is_value:
            is_value = False
        elif equals or not argument.startswith("-") or following.startswith("--"):
            yield option, value, [argument]
        else:
            is_value = True
            yield option, following, [argument, following]


def option_values(args: Sequence[str], *names: str) -> list[str]:
    """Return the values of options, in the order of the command line: ``--name value`` and ``--name=value``."""
    return [value for option, value, _ in options(args) if option in names]


def run_name(name: str) -> str:
    """Return the name of a run as `runs.find` takes it: a folder becomes its whole path."""
    return str(Path(name).absolute()) if len(Path(name).parts) > 1 else name


def run_options(name: str | None) -> list[str]:
    """Return the options that choose a run by its name or folder; None chooses the newest finished one."""
    return [f"--run={run_name(name)}"] if name else []


@contextmanager
def launcher_arguments(args: Sequence[str]) -> Iterator[None]:
    """Have Lightning start the processes of other devices with these arguments, the command first.

    Its DDP launcher repeats `sys.argv` and takes no other command line; nothing else in the library sets that. What it
    leaves in the environment would keep a later training from starting processes of its own.
    """
    arguments = sys.argv[1:]
    environment = dict(os.environ)
    sys.argv[1:] = args
    try:
        yield
    finally:
        sys.argv[1:] = arguments
        os.environ.clear()
        os.environ.update(environment)
