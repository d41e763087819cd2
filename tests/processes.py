"""Commands in processes of their own, which can be killed, forked from one that has imported torch and Lightning.

Importing them takes six seconds of a core, forking a few milliseconds. The standard library's fork server keeps such a
process. What it forks runs a module as ``python -m`` does, in a folder, environment and process group of its own.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from acting import acting
from own_classes import class_of
from project import ROOT, clean_environment

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torchvision", "pytorch_lightning.cli", "torchmetrics", "optuna", "PIL.Image"])
# A module, a method of its Lightning class, and a call of this method: there a process is killed as by ``kill -9``.
Place = tuple[str, str, int]


def _run(words: list[str], folder: str, environment: dict[str, str], output: str, death: Place | None) -> None:
    multiprocessing.set_start_method(None, force=True)  # of workers that load data, not the fork server's
    gc.freeze()  # else each collection touches, and so copies, all that was imported
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not as nohup, or a shell's background, has left it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *environment["PYTHONPATH"].split(os.pathsep)]
    sys.argv = words
    if death:
        module, name, call = death
        method = getattr(class_of(module), name)
        setattr(class_of(module), name, acting(method, call, lambda: os.killpg(0, signal.SIGKILL)))
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


class Command(CONTEXT.Process):
    """A module that runs in a folder in a process of its own, and begins when this is made."""

    def __init__(
        self,
        folder: Path,
        module: str,
        *arguments: str,
        death: Place | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        number, self.file = tempfile.mkstemp(dir=folder.parent, suffix=".out")
        os.close(number)
        variables = clean_environment(folder) | dict(environment or {})
        super().__init__(target=_run, args=([module, *arguments], str(folder), variables, self.file, death))
        self.start()

    def wait(self, timeout: float = 300) -> int | None:
        """Wait for the end, and return the exit code; kill the process after so many seconds."""
        self.join(timeout)
        if self.exitcode is None:
            self.kill()
        return self.exitcode

    def kill(self) -> None:
        """Kill the process, and what it has started, as nothing can be caught."""
        assert self.pid is not None
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # so new that it has no group of its own yet, and has started nothing
            super().kill()
        self.join()

    def output(self) -> str:
        """Return what the process has written so far, to stdout and stderr."""
        return Path(self.file).read_text(encoding="utf-8")


def run(folder: Path, module: str, *arguments: str, death: Place | None = None) -> str:
    """Run a command to its end, or its death at a place, and return its output."""
    started = Command(folder, module, *arguments, death=death)
    assert started.wait() == (-signal.SIGKILL if death else 0), started.output()
    return started.output()


def as_ranks(folder: Path, module: str, *arguments: str) -> list[Command]:
    """Start a command as rank 0 and as rank 1 of a training, as torchrun does."""
    shared = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        Command(folder, module, *arguments, environment=shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def classes_folder(folder: Path, monitor: str = "", **trainer: object) -> Path:
    """Fill a folder for ``own_classes``, with a metric that chooses the best checkpoint and options of the Trainer."""
    options = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "default_root_dir": "runs", "log_every_n_steps": 5}
    config = {"seed_everything": 42, "trainer": options | {"enable_model_summary": False} | trainer}
    if monitor:
        config["checkpoint"] = {"monitor": monitor}
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "default.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "src").mkdir()
    (folder / "src" / "own_classes").symlink_to(ROOT / "tests" / "own_classes")
    return folder


def held_processes(folder: Path, step: int, started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait until two ranks have come to a step at which `own_classes.hold` holds them, and return their processes."""
    files = [folder / f"held-{rank}-{step}" for rank in range(2)]
    while not all(file.exists() for file in files):
        assert [process.poll() for process in started] == [None] * len(started)
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]
