"""Commands of the toy task in a process that kills itself, forked from one that has imported torch and Lightning."""

import multiprocessing
import os
import pkgutil
import signal
import sys
from itertools import count
from typing import Any

from toy import command

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "pytorch_lightning.cli", "torchmetrics", "optuna"])


def _run(folder: str, args: tuple[str, ...], place: str, calls: int, when: str) -> None:
    os.chdir(folder)
    owner, _, name = place.rpartition(".")
    method = getattr(pkgutil.resolve_name(owner), name)
    numbers = count(1)

    def killing(*given: Any, **named: Any) -> Any:
        number = next(numbers)
        if number == calls and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*given, **named)
        if number == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(pkgutil.resolve_name(owner), name, killing)
    sys.exit(command(*args))


def kill(*args: str, place: str = "toy:Toy.training_step", calls: int = 1, when: str = "before") -> None:
    """Run a command in this folder, killed as by ``kill -9`` in a call of the method at ``place``."""
    process = _CONTEXT.Process(target=_run, args=(os.getcwd(), args, place, calls, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
