"""What is done with runs once there are some: each module is a command of that name, and can be deleted alone.

A module has ``main(args)``, which returns the exit code; what it needs is imported when it is called.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import UserError, message

if TYPE_CHECKING:
    from ..cli import RunCLI


def find(args: list[str]) -> Callable[[list[str]], int] | None:
    """Find the command of this folder that the arguments name; None if they name one of `train`."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    if not args or args[0] not in names:
        return None
    # `predict` without files labels the test images, as Lightning does it
    if args[0] == "predict" and not _has_files(args[1:]):
        return None
    name = args[0]

    def command(rest: list[str]) -> int:
        try:
            return import_module(f"{__name__}.{name}").main(rest)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return command


def after_fit(cli: RunCLI) -> None:
    """Write the report of a run that has just finished, and say where; if that fails, the run is finished all the same.

    Args:
        cli: The command line that has trained it.
    """
    if cli.run is None or not cli.trainer.is_global_zero:
        return
    try:
        cli.say(f"Report: {import_module(f'{__name__}.report').write([cli.run])}")
    except Exception as error:  # whatever a chart may trip over
        text = (message(error) or f"{type(error).__name__}: {error}").splitlines()[0]
        cli.say(f"No report was written: {text}")


def _has_files(args: list[str]) -> bool:
    """Whether there is an argument that is neither an option nor the value of one."""
    pairs = pairwise(["", *args])
    return any(not arg.startswith("-") and (not before.startswith("-") or "=" in before) for before, arg in pairs)
