"""What `sweep` and `repeat` share: many runs that `fit` trains in this process, each held by a lock while it trains.

The system frees a lock when its process dies, and another process then goes on with the run from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from filelock import AcquireReturnProxy, FileLock
from pytorch_lightning.callbacks import Callback

from ..cli.run_cli import RunCLI
from ..errors import UserError
from ..names import program
from ..resume import signals
from ..resume.differences import CHANGEABLE, LIMITS
from ..runs import check_name
from ..runs.options import flat
from .fit import run_trainer_command

OF_A_RUN = {"--run", "--resume", "--ckpt_path"}


def parsed(command: str, parser: argparse.ArgumentParser, args: list[str]) -> tuple[str, Any, list[str]]:
    """Return the name that stands first in ``args``, the command's own options, and those of `fit`."""
    named = bool(args) and not args[0].startswith("-")  # a later one could be the value of an option of fit
    options, fit = parser.parse_known_args(args[named:])
    check_name("NAME", name := args[0] if named else command)
    # a line for each run takes the place of a summary of its model
    logging.getLogger("pytorch_lightning.callbacks.model_summary").setLevel(logging.WARNING)
    return name, options, fit


@contextmanager
def resumable(command: str, args: list[str]) -> Iterator[None]:
    """Where a signal ends the process, say how to go on."""
    try:
        yield
    except signals.Stopped as stop:
        print(f"stopped by {stop.name}; to go on: {program()} {command} {shlex.join(args)}", file=sys.stderr)
        raise


def refuse(command: str, fit: list[str], names: set[str], why: str) -> None:
    """Refuse options of `fit` that the command gives to its runs itself.

    Raises:
        UserError: One of ``names`` is among them.
    """
    if taken := {argument.split("=")[0] for argument in fit} & names:
        raise UserError(f"{min(taken)} is no option of {command}: {why}.")


def options(module_class: type, data_class: type | None, fit: list[str]) -> dict[str, Any]:
    """All options of a `fit` by their dotted names; a wrong one ends the process with 2."""
    return flat(RunCLI(module_class, data_class, ["fit", *fit], execute=False).options())


def fixed(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Those options that stay the same when the command is given again, as plain values."""
    kept = {key: of[key] for key in of if key not in CHANGEABLE - LIMITS}
    return json.loads(json.dumps(kept | more, default=str))


def compare(command: str, name: str, begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other options than those it was begun with.

    Raises:
        UserError: One of them is another.
    """
    for key in sorted(now | begun):
        if now.get(key) != begun.get(key):
            raise UserError(
                f"the {command} {name} was begun with {key} {json.dumps(begun.get(key))}, and now it is"
                f" {json.dumps(now.get(key))}. Begin another one under a name of its own: {command} NAME"
            )


def claim(folder: Path, stem: str) -> AcquireReturnProxy:
    """Take the lock of a run; it is a `filelock.Timeout` if another process has it."""
    return FileLock(folder / f"{stem}.lock").acquire(blocking=False)


def train(
    module_class: type, data_class: type | None, fit: list[str], more: list[str], callbacks: Sequence[Callback] = ()
) -> None:
    """Run `fit` with more options and callbacks in this process, and restore what it changes there.

    A process for each run would import torch and Lightning each time, and a forked one can't use a GPU that its parent
    has used.
    """
    # run.json records the command, and Lightning starts the processes of other devices by it
    command = ["fit", *fit, *more]
    with patch.object(sys, "argv", [sys.argv[0], *command]), patch.dict(os.environ):
        run_trainer_command(module_class, data_class, command, callbacks=callbacks)
    if "torch._dynamo" in sys.modules:  # it compiles only the first eight networks of a process otherwise
        torch.compiler.reset()


def arguments(values: dict[str, Any]) -> list[str]:
    """Options of the command line that set these values."""
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
