"""What is done with runs once there are some: each module is a command of that name, and can be deleted alone.

A module has ``main(args)``, which returns the exit code; what it needs is imported when it is called.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise

from ..errors import UserError


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


def _has_files(args: list[str]) -> bool:
    """Whether there is an argument that is neither an option nor the value of one."""
    pairs = pairwise(["", *args])
    return any(not arg.startswith("-") and (not before.startswith("-") or "=" in before) for before, arg in pairs)
