"""The arguments of commands that name runs and files."""

from __future__ import annotations

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
