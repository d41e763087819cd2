"""A process that has imported torch, Lightning and a project's code, and forks a process for each command.

Importing takes seconds and forking milliseconds, so hundreds of trainings can each have a process of their own. What
is forked has the folder, environment and standard streams that it is given, and may be killed like any other.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from project import PACKAGE, clean_environment, package_files

# Reads requests and writes answers, a line of JSON each. Forks before any thread is started: nothing here computes.
_SERVER = """
import gc, importlib, json, os, runpy, signal, sys, traceback, types

for name in {modules!r}:
    importlib.import_module(name)
{main}
class Second:
    # stands in for the Popen of a second process, which was forked before this one began to compute

    def __init__(self, pid, pipe):
        self.pid, self.pipe, self.returncode = pid, pipe, None

    def __call__(self, command, env, cwd):  # Lightning's launcher wants to start it
        os.write(self.pipe, json.dumps(env).encode())
        os.close(self.pipe)
        return self

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, sent):
        os.kill(self.pid, sent)

def prepare_second(commands):
    from pytorch_lightning.strategies.launchers import subprocess_script
    (command,) = commands  # Lightning can't launch twice from one process
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read)
        subprocess_script.subprocess = types.SimpleNamespace(Popen=Second(pid, write))
        return
    os.close(write)
    environment = os.fdopen(read).read()
    if not environment:  # the first process did not want a second one, or is gone
        os._exit(0)
    os.environ.clear()
    os.environ.update(json.loads(environment))
    sys.exit(main(command))

def child(request):
    os.setpgid(0, 0)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # not as nohup, or a shell's background, has left them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]  # as `python -m` has it
    sys.argv = ["train.py"]
    exec(request["before"], {{}})
    if request["processes"] == 2:
        prepare_second(request["commands"])
    codes = []
    for command in request["commands"]:
        print("$$$", *command, flush=True)
        try:
            code = main(command)
        except SystemExit as stop:
            code = stop.code
        codes.append(code)
        sys.stderr.flush()
        print("exit", code, flush=True)
    return codes[-1]

gc.freeze()  # else each collection in a forked process touches, and so copies, all that was imported
for line in sys.stdin:
    request = json.loads(line)
    if "ended" in request:
        pid, status = os.waitpid(request["ended"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
    else:
        answer = os.fork()
        if answer == 0:
            sys.exit(child(request))
    print(json.dumps(answer), flush=True)
"""
# Runs a command with the code that the server has imported, as `__main__` does.
_MAIN = f"""
from {PACKAGE} import inputs, runtime, train

def main(arguments):
    code = runtime.early(arguments, getattr(inputs, "read", None))
    return train.main(arguments) if code is None else code
"""
# Runs a command with the code of the folder that it runs in, as `python -m` does.
_OWN_MAIN = f"""
def main(arguments):
    sys.path[1:1] = [os.path.abspath("src")]
    sys.argv = [{PACKAGE!r}, *arguments]
    try:
        runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
"""
# What a training imports on its way besides; not wandb, which deletes its folder for pictures when a process ends.
_MODULES = (
    *("torch", "torchvision", "pytorch_lightning", "pytorch_lightning.cli", "torchmetrics"),
    *("tensorboard", "PIL.Image", "matplotlib", "mlflow", "optuna"),
)


def copy_package(folder: Path) -> Path:
    """Copy the code of image classification, the same in each such project; return what to import it from."""
    for name, file in package_files().items():
        (folder / "src" / PACKAGE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / "src" / PACKAGE / name)
    return folder / "src"


class WarmProcess:
    """A process that has imported everything, and forks.

    Args:
        folder: An empty folder, which a project's code is copied to.
        own: Import no project's code: each forked process imports that of the folder it runs in.
    """

    def __init__(self, folder: Path, own: bool = False) -> None:
        if not own:
            copy_package(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER.format(modules=_MODULES, main=_OWN_MAIN if own else _MAIN)],
            env=clean_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        project: Path,
        commands: Sequence[Sequence[str]],
        before: str = "",
        environment: Mapping[str, str] | None = None,
        processes: int = 1,
    ) -> Command:
        """Fork a process that runs trainer commands one after the other.

        Args:
            project: The folder to run in.
            commands: Arguments of the trainer script, one list for each command.
            before: Python to run first.
            environment: Environment variables to add.
            processes: 2 lets Lightning's launcher fork a second process too; only for a single command.
        """
        file, output = tempfile.mkstemp(dir=project.parent, suffix=".out")
        os.close(file)
        pid = self._ask(
            folder=str(project),
            commands=commands,
            before=before,
            processes=processes,
            environment=clean_environment(project) | dict(environment or {}),
            output=output,
        )
        return Command(self, pid, len(commands), Path(output))

    def close(self) -> None:
        """End the process; commands that still run go on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _ask(self, **request: object) -> Any:
        stdin: IO[str] | None = self._process.stdin
        stdout: IO[str] | None = self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())


class Command:
    """Trainer commands that run in a process of their own.

    Attributes:
        pid: The process, to send signals to.
    """

    def __init__(self, warm: WarmProcess, pid: int, count: int, output: Path) -> None:
        self.pid = pid
        self._code: int | None = None
        self._count = count
        self._warm = warm
        self._output = output

    def wait(self, timeout: float = 300) -> int:
        """Wait for the process's end and return its exit code (of a signal, the negative number).

        Raises:
            TimeoutError: It has not ended after ``timeout`` seconds, and was killed.
        """
        end = time.monotonic() + timeout
        while (code := self.ended()) is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"no end after {timeout} s:\n{self.output()}")
            time.sleep(0.02)
        return code

    def ended(self) -> int | None:
        """Return the exit code of a process that has ended."""
        if self._code is None:
            self._code = self._warm._ask(ended=self.pid)
        return self._code

    def kill(self) -> None:
        """Kill the process, and what it has started, as nothing can be caught."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # so new that it has no group of its own yet, and has started nothing
            os.kill(self.pid, signal.SIGKILL)
        while self.ended() is None:
            time.sleep(0.01)

    def results(self) -> list[tuple[int, str]]:
        """The exit code and the output of each of the commands.

        Raises:
            AssertionError: One of them ended the process.
        """
        results = []
        for part in ("\n" + self.output()).split("\n$$$")[1:]:
            text, _, code = part.rpartition("\nexit ")
            results.append((int(code.split()[0]) if text else -1, text or part))
        assert len(results) == self._count, self.output()
        return results

    def output(self) -> str:
        """What the process has written so far, to stdout and stderr."""
        return self._output.read_text(encoding="utf-8")


def shared(own: bool = False) -> WarmProcess:
    """Return the one process that all tests of this process fork from, or the one that forks for projects' own code."""
    return _shared(own)


@cache
def _shared(own: bool) -> WarmProcess:
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    process = WarmProcess(folder, own)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.close)
    return process


def run(
    project: Path,
    *commands: list[str],
    before: str = "",
    environment: Mapping[str, str] | None = None,
    own: bool = False,
) -> list[tuple[int, str]]:
    """Run trainer commands one after the other in one process in a project's folder.

    Args:
        project: The baked project.
        commands: Arguments of the trainer script, one list for each command.
        before: Python to run before the first of them.
        environment: Environment variables to add.
        own: Run the project's own code, which a test has changed.

    Returns:
        The exit code and the output (stdout and stderr) of each command.
    """
    command = shared(own).start(project, commands, before=before, environment=environment)
    command.wait()
    return command.results()
