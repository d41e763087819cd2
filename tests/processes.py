"""Commands in processes of their own, which can be killed, forked from one that has imported torch and Lightning.

Importing them takes six seconds of a core, forking a few milliseconds. The standard library's fork server keeps such a
process. What it forks runs a module as ``python -m`` does, in a folder, environment and process group of its own.
"""

import functools
import gc
import itertools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import yaml
from own_classes import class_of
from project import ROOT, clean_environment

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torchvision", "pytorch_lightning.cli", "torchmetrics", "numpy", "PIL.Image"])


# A module, a method of its Lightning class, and a call of this method: there a process waits or is killed.
Place = tuple[str, str, int]
NOWHERE = ("", "", 0)


def _run(
    module: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    output: str,
    death: Place,
    hold: Place,
    start_method: str,
) -> None:
    multiprocessing.set_start_method(start_method, force=True)  # of workers that load data, not the fork server's
    gc.freeze()  # else each collection touches, and so copies, all that was imported
    os.setpgid(0, 0)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # not as nohup, or a shell's background, has left them
        signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, buffering=1) for number in (1, 2))  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *environment["PYTHONPATH"].split(os.pathsep)]
    sys.argv = [module, *arguments]
    _do_at(death, lambda: os.killpg(0, signal.SIGKILL))
    _do_at(hold, _wait)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _do_at(place: Place, act: Callable[[], None]) -> None:
    """Have a call of a method do something first."""
    module, name, call = place
    if not module:
        return
    cls, calls = class_of(module), itertools.count(1)
    method = getattr(cls, name)

    @functools.wraps(method)
    def changed(*args: object, **kwargs: object) -> object:
        if next(calls) == call:
            act()
        return method(*args, **kwargs)

    setattr(cls, name, changed)


def _wait() -> None:
    Path(f"held-{os.getpid()}").touch()
    end = time.monotonic() + 120
    while not Path("go").exists() and time.monotonic() < end:
        time.sleep(0.02)


class Command:
    """A command that runs in a process of its own, and begins when this is made.

    Args:
        folder: The folder to run in.
        module: The module that is run, such as a project's package.
        arguments: What follows on the command line.
        death: Where the process and those that it has started are killed, as by ``kill -9``.
        hold: Where it writes a file ``held-PID`` into the folder, and waits for a file ``go``.
        environment: Environment variables to add.

    Attributes:
        pid: The process, to send signals to.
    """

    def __init__(
        self,
        folder: Path,
        module: str,
        *arguments: str,
        death: Place = NOWHERE,
        hold: Place = NOWHERE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        number, file = tempfile.mkstemp(dir=folder.parent, suffix=".out")
        os.close(number)
        self._output = Path(file)
        added = clean_environment(folder) | dict(environment or {})
        given = (module, list(arguments), str(folder), added, file, death, hold, multiprocessing.get_start_method())
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid or 0

    def exit_code(self) -> int | None:
        """Return the exit code (of a signal, the negative number), or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            TimeoutError: It has not ended after so many seconds, and was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"no end after {timeout} s:\n{self.output()}")
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process, and what it has started, as nothing can be caught."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # so new that it has no group of its own yet, and has started nothing
            self._process.kill()
        self._process.join()

    def output(self) -> str:
        """Return what the process has written so far, to stdout and stderr."""
        return self._output.read_text(encoding="utf-8")


def run(folder: Path, module: str, *arguments: str, death: Place = NOWHERE, **environment: str) -> str:
    """Run a command to its end and return its output.

    Raises:
        AssertionError: It fails, or is not killed at the place where it should be.
    """
    started = Command(folder, module, *arguments, death=death, environment=environment)
    assert started.wait() == (-signal.SIGKILL if death[0] else 0), started.output()
    return started.output()


def as_ranks(folder: Path, module: str, *arguments: str, death: Place = NOWHERE) -> list[Command]:
    """Start a command as rank 0 and as rank 1 of a training, as torchrun does; ``death`` is rank 0's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"TORCHELASTIC_RUN_ID": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    shared |= {"LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    return [
        Command(
            folder,
            module,
            *arguments,
            death=death if rank == "0" else NOWHERE,
            environment=shared | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]


def classes_folder(folder: Path, monitor: str = "", **trainer: object) -> Path:
    """Fill a folder for ``own_classes``, with the configuration of someone who has only read how to begin.

    Args:
        folder: A new folder.
        monitor: The metric that chooses the best checkpoint, the lower the better; none keeps Lightning's default.
        trainer: Options of the Trainer to set.
    """
    options = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "default_root_dir": "runs", "log_every_n_steps": 5}
    config = {"seed_everything": 42, "trainer": options | {"enable_model_summary": False} | trainer}
    write_yaml(folder / "configs" / "default.yaml", config | ({"checkpoint": {"monitor": monitor}} if monitor else {}))
    (folder / "src").mkdir()
    (folder / "src" / "own_classes").symlink_to(ROOT / "tests" / "own_classes")
    return folder


def write_yaml(file: Path, content: Mapping[str, object]) -> None:
    """Write options in the order that they have."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")


class Running(Protocol):
    """A process that tells whether and how it has ended."""

    def exit_code(self) -> int | None: ...  # noqa: D102
    def output(self) -> str: ...  # noqa: D102


def wait_for(condition: Callable[[], bool], commands: Sequence[Running], timeout: float = 240) -> None:
    """Wait until a condition holds while commands run.

    Raises:
        AssertionError: It never did; their output is told.
    """
    end = time.monotonic() + timeout
    while not condition():
        running = time.monotonic() < end and any(command.exit_code() is None for command in commands)
        assert running, "\n".join(command.output() for command in commands)
        time.sleep(0.02)
