"""Run folders: chosen, recorded, and found again."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

# torch and Lightning take seconds to import, so they are where they are used: the table of runs needs neither
if TYPE_CHECKING:
    from torch.distributed import TCPStore

# How a run's folder reaches the processes that Lightning starts for the other devices: they run `main` again.
FOLDER_VARIABLE = "LIGHTNING_RUN_FOLDER"


class Run:
    """One run's folder: ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics.csv``, logger files and results.

    Args:
        folder: The folder.

    Attributes:
        record: What ``run.json`` holds: ``status`` (running, finished, failed or interrupted), times, process, command,
            git commit, versions, and in the end the best checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {}
        self._since: float | None = None  # when this process began to work on it
        with contextlib.suppress(OSError, json.JSONDecodeError):
            self.record = json.loads((folder / "run.json").read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def finished(self) -> bool:
        return self.record.get("status") == "finished"

    @property
    def status(self) -> str:
        """Running, finished, failed or interrupted; a run is interrupted too if its process is gone."""
        status = str(self.record.get("status", "interrupted"))
        return "interrupted" if status == "running" and _is_gone(self.record.get("process")) else status

    def update(self, **values: Any) -> None:
        """Change values of the record and write it, whole or not at all."""
        self.record.update(values)
        if self._since is not None:
            now = time.time()
            self.record["seconds"] = round(self.record.get("seconds", 0.0) + now - self._since, 2)
            self._since = now
        write_whole(self.folder / "run.json", json.dumps(self.record, indent=2, default=str) + "\n")

    def begin(self, **values: Any) -> None:
        """Record that the run is under way, and what it would take to repeat it."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        started = {"resumed": now} if "command" in self.record else {"started": now}
        self._since = time.time()
        self.update(
            status="running",
            process=_this_process(),
            **started,
            command=" ".join(sys.argv),
            git=_git_state(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            versions={name: metadata.version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
            **values,
        )

    def end(self, status: str, **values: Any) -> None:
        """Record how the run ended."""
        self.update(status=status, ended=time.strftime("%Y-%m-%d %H:%M:%S"), **values)
        self._since = None

    def configure(self, text: str) -> None:
        """Write ``config.yaml``."""
        write_whole(self.config_file, text)

    def discard(self) -> None:
        """Remove the folder of a run that has not come to training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """The checkpoint from which the run goes on, if it has come that far."""
        from . import checkpoints

        return checkpoints.newest_whole(self.checkpoints, print)

    def best_checkpoint(self) -> Path:
        """The checkpoint with the best value of the monitored metric.

        Raises:
            UserError: There is none.
        """
        from . import checkpoints

        best = self.record.get("best_checkpoint")
        if best is None and (last := self.last_checkpoint()):  # a run that was cut short has not recorded it
            states = checkpoints.read(last).get("callbacks", {})
            paths = [state["best_model_path"] for state in states.values() if state.get("best_model_path")]
            best = paths[0] if paths else last
        file = self.checkpoints / re.split(r"[\\/]", str(best))[-1] if best else None
        if file is None or not file.is_file():
            raise UserError(
                f"the run {self.name} has no checkpoint in {self.checkpoints}. Train it first, or --resume it."
            )
        return file


def create(root: Path, name: str | None, config: str) -> Run:
    """Make the folder of a new run; processes of other ranks receive the one that rank 0 made.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the date and time.
        config: Text of its ``config.yaml``.

    Raises:
        UserError: The name is taken or no folder's name, or the folder can't be written.
    """
    return Run(Path(shared_by_ranks("new", lambda: str(_make_folder(root, name, config)))))


def _make_folder(root: Path, name: str | None, config: str) -> Path:
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"--run is {name!r}; a run's name is made of letters, digits and . _ + = , - alone.")
    # Filled beside its place: whatever kills this process, a run that is there can be resumed.
    made = root.absolute() / f".{os.getpid()}.tmp"
    try:
        made.mkdir(parents=True)
        run = Run(made)
        run.configure(config)
        run.update(status="running", process=_this_process(), started=time.strftime("%Y-%m-%d %H:%M:%S"))
        for number in range(1, 1000):
            chosen = name or time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_{number}" if number > 1 else "")
            folder = root.absolute() / chosen
            if not folder.exists():
                made.rename(folder)
                return folder
            if name is not None:
                raise UserError(
                    f"{folder} exists already. Choose another --run name, or go on with that run: --resume {chosen}"
                )
        raise UserError(f"no name was free for a run in {root}; give one with --run.")
    except OSError as error:
        raise UserError(f"a run's folder can't be made in {root.absolute()}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_whole(file: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def shared_by_ranks(question: str, choose: Callable[[], str]) -> str:
    """Let rank 0 choose a text, such as a run's folder, and give the other processes of the training its choice.

    Args:
        question: A word for what is chosen, another one for each call.
        choose: Makes the choice.
    """
    if world := _launched_world():
        rank, store = world
        key = f"{__package__}/{question}"
        if rank == 0:
            store.set(key, choose())
        while not store.check([key]):  # not `store.wait`, in which no signal would be handled
            time.sleep(0.05)
        return store.get(key).decode()
    if os.environ.get("LOCAL_RANK", "0") != "0" and FOLDER_VARIABLE in os.environ:
        return os.environ[FOLDER_VARIABLE]
    chosen = choose()
    if chosen:
        os.environ[FOLDER_VARIABLE] = chosen  # Lightning's launcher hands the environment on
    return chosen


def all_ranks_have(question: str, value: str) -> bool:
    """Whether this process has what rank 0 has, where they may run on several machines."""
    return _launched_world() is None or shared_by_ranks(question, lambda: value) == value


@cache
def _launched_world() -> tuple[int, TCPStore] | None:
    """This process's rank, and a store that all processes share which torchrun or srun has started."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment
    from torch.distributed import TCPStore

    from . import hardware

    if hardware.by_torchrun():
        rank, host, port = int(os.environ["RANK"]), os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        slurm = SLURMEnvironment(auto_requeue=False)
        rank, host, port, hosted = slurm.global_rank(), slurm.main_address, slurm.main_port, False
    else:
        return None
    if rank == 0 and not hosted:  # torch makes its own store at this address later, and then shares the server
        return rank, TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True)
    while True:  # TCPStore would wait too, but handle no signal
        try:
            socket.create_connection((host, port), timeout=1).close()
            return rank, TCPStore(host, port, is_master=False)
        except OSError:
            time.sleep(0.1)


def launched_by_rank_0() -> bool:
    """Whether Lightning's launcher in another process started this one."""
    from . import hardware

    return not hardware.by_torchrun() and os.environ.get("LOCAL_RANK", "0") != "0" and FOLDER_VARIABLE in os.environ


def find(root: Path, name: str | None, finished: bool) -> Run:
    """Find a run by its name, or the newest one.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the newest that is finished, or is not.
        finished: Which of the two, where no name is given.

    Raises:
        UserError: There is no such run.
    """
    if name:
        if run := find_begun(root, name):
            return run
        raise unknown(root, name)
    return Run(Path(shared_by_ranks("found", lambda: str(_newest(root, finished)))))


def unknown(root: Path, name: str) -> UserError:
    """What to say of a name that no run has."""
    known = ", ".join(run.name for run in every(root)[:5]) or "none"
    return UserError(f"there is no run {name} in {root} (newest: {known}).")


def find_begun(root: Path, name: str) -> Run | None:
    """Find a run by its name, if it was ever begun."""
    folder = root.absolute() / name
    found = shared_by_ranks("begun", lambda: str(folder) if Run(folder).config_file.is_file() else "")
    return Run(Path(found)) if found else None


def _newest(root: Path, finished: bool) -> Path:
    found = [run for run in every(root) if run.finished == finished]
    # rather a run that has got somewhere than one that was killed before its first checkpoint
    for run in (*(run for run in found if run.last_checkpoint()), *found):
        return run.folder
    if finished:
        raise UserError(f"no finished run in {root}. Train one with: fit; or name a checkpoint: --ckpt_path FILE")
    raise UserError(f"no unfinished run in {root} to resume. Start one with: fit")


def default_root() -> Path:
    """The folder with all runs, as ``configs/default.yaml`` names it."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError):
        options = yaml.safe_load(Path("configs/default.yaml").read_text(encoding="utf-8"))
        return Path(options["trainer"].get("default_root_dir") or "runs")
    return Path("runs")


def every(root: Path) -> list[Run]:
    """All runs of a folder, the newest first."""
    runs = [Run(file.parent) for file in root.absolute().glob("*/config.yaml")]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node(), "started": _process_start(os.getpid())}


def _is_gone(process: dict[str, Any] | None) -> bool:
    """Whether it can be told that a process runs no more; of one on another machine it can't."""
    if not process or process.get("host") != platform.node():
        return False
    started = _process_start(process["pid"])
    return started is None or started != process["started"]


def _process_start(pid: int) -> str | None:
    """When a process was started, for its number may be given to another one later; None if it has ended.

    The text is of use for comparing alone, and empty where the system has no way to tell.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]  # ended, and not yet collected by what started it
    if os.name != "posix":
        return ""
    try:
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() or None


def _git_state() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
