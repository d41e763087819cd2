"""Commands of the toy task in a process that kills itself, forked from one that has imported torch and Lightning."""

import os
import pkgutil
import signal
import sys
from functools import partial

from acting import acting
from processes import CONTEXT
from toy import command


def _run(folder: str, args: tuple[str, ...], place: str, calls: int, when: str) -> None:
    os.chdir(folder)
    path, _, name = place.rpartition(".")
    owner = pkgutil.resolve_name(path)
    end = partial(os.kill, os.getpid(), signal.SIGKILL)
    setattr(owner, name, acting(getattr(owner, name), calls, end, after=when == "after"))
    sys.exit(command(*args))


def kill(*args: str, place: str = "toy:Toy.training_step", calls: int = 1, when: str = "before") -> None:
    """Run a command in this folder, killed as by ``kill -9`` in a call of the method at ``place``."""
    process = CONTEXT.Process(target=_run, args=(os.getcwd(), args, place, calls, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
