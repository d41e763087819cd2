"""The arguments of commands that name runs and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

ONE_PROCESS = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto")  # whatever a run had


def has_files(args: list[str]) -> bool:
    """Whether an argument is neither an option nor the value of one."""
    pairs = pairwise(["", *args])
    return any(not arg.startswith("-") and (not before.startswith("-") or "=" in before) for before, arg in pairs)


def run_name(name: str) -> str:
    """The name of a run as `runs.find` takes it: that of a folder is its whole path."""
    return str(Path(name).absolute()) if len(Path(name).parts) > 1 else name


def run_options(name: str | None) -> list[str]:
    """Options of Lightning's commands that choose a run by its name or folder; None takes the newest finished one."""
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
