"""Commands of the toy task in processes that can be killed, forked from one that has imported torch and Lightning."""

import multiprocessing
import os
import pkgutil
import signal
import sys
from typing import Any

import lightning_runs
from toy import Toy, ToyData

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "pytorch_lightning.cli", "torchmetrics", "optuna"])


def _run(folder: str, args: tuple[str, ...], data: type, place: str, calls: int, when: str) -> None:
    os.chdir(folder)
    if place:
        owner, _, name = place.rpartition(".")
        _kill(pkgutil.resolve_name(owner), name, calls, when)
    sys.exit(lightning_runs.run(Toy, data, list(args), package="toy_project"))


def _kill(owner: Any, name: str, calls: int, when: str) -> None:
    """Replace a method by one that kills this process, in its so manieth call."""
    method = getattr(owner, name)
    count = 0

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if when == "before" and count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


def start(*args: str, data: type = ToyData, place: str = "", calls: int = 1, when: str = "before") -> Any:
    """Start a command in this folder. It kills itself as ``kill -9`` does, in a call of the method at ``place``."""
    process = _CONTEXT.Process(target=_run, args=(os.getcwd(), args, data, place, calls, when))
    process.start()
    return process


def kill(
    *args: str, data: type = ToyData, place: str = "toy:Toy.training_step", calls: int = 1, when: str = "before"
) -> None:
    """Run a command that kills itself, to its end."""
    process = start(*args, data=data, place=place, calls=calls, when=when)
    process.join()
    assert process.exitcode == -signal.SIGKILL
