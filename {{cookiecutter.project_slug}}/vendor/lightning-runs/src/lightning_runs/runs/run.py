"""Run folders: made, recorded, locked while they are trained, and found again. Imports neither torch nor Lightning."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import time
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import filelock

from ..errors import UserError
from ..files import write_whole

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")  # whose versions are recorded
_WAIT = 2.0  # seconds for a lock: somebody who only asks holds it for an instant, and a killed process's workers end


class Run:
    """One run's folder: ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics.csv``, logger files and results.

    Args:
        folder: The folder.

    Attributes:
        record: What ``run.json`` holds: ``status`` (running, finished, failed or interrupted), times, command, git
            commit, versions, and in the end the best checkpoint.
        damaged: Why ``run.json`` can't be read, or None.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.config_file, self.checkpoints = folder / "config.yaml", folder / "checkpoints"
        self.record: dict[str, Any] = {}
        self.damaged: str | None = None
        self._since: float | None = None  # when this process began to work on it
        self._lock_file = folder / ".lock"
        self._lock: filelock.BaseFileLock | None = None
        file = folder / "run.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError("it holds no record of a run")
            self.record = record
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self.damaged = f"{file} can't be read: {error}."

    @property
    def status(self) -> str:
        """Running, finished, failed or interrupted; a run is interrupted too if no process has its lock."""
        status = str(self.record.get("status", "interrupted"))
        return "interrupted" if status == "running" and not self.in_use() else status

    # ---- The lock: it tells who lives, for the system frees it when a process is killed

    def lock(self) -> None:
        """Lock the run until `unlock`, or the end of this process. Where the file system has no locks, say so.

        Raises:
            UserError: Another process trains it.
        """
        lock = filelock.FileLock(self._lock_file)
        try:
            lock.acquire(timeout=_WAIT)
        except filelock.Timeout as error:
            raise UserError(
                f"the run {self.name} is in use: another process trains it. Wait for its end, or begin a run of"
                " your own: fit --run NAME"
            ) from error
        except (OSError, NotImplementedError):
            root = self.folder.parent
            print(f"{root} is on a file system without locks: start no second process on this run.", flush=True)
            return
        self._lock = lock

    def unlock(self) -> None:
        """Free the lock, if this process has it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def in_use(self) -> bool:
        """Whether a living process has the lock, as far as this machine can tell."""
        if self._lock is not None or not self._lock_file.is_file():
            return self._lock is not None
        try:
            with filelock.FileLock(self._lock_file).acquire(blocking=False):
                return False
        except filelock.Timeout:
            return True
        except (OSError, NotImplementedError):  # a folder that may only be read, or no locks there
            return False

    # ---- The record

    def update(self, **values: Any) -> None:
        """Change values of the record and write it, whole or not at all."""
        self.record.update(values)
        if self._since is not None:
            now = time.time()
            self.record["seconds"] = round(self.record.get("seconds", 0.0) + now - self._since, 2)
            self._since = now
        write_whole(self.folder / "run.json", json.dumps(self.record, indent=2, default=str, ensure_ascii=False) + "\n")

    def begin(self, command: str, **values: Any) -> None:
        """Record that the run is under way, the command that trains it, and what it takes to repeat it."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        started = {"resumed": now} if "command" in self.record else {"started": now}
        self._since = time.time()
        self.update(
            status="running",
            **started,
            command=command,
            git=_git_state(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            versions={name: of.version for name in PACKAGES for of in [*metadata.distributions(name=name)][:1]},
            **values,
        )

    def end(self, status: str, **values: Any) -> None:
        """Record how the run ended."""
        self.update(status=status, ended=time.strftime("%Y-%m-%d %H:%M:%S"), **values)
        self._since = None

    def discard(self) -> None:
        """Remove the folder of a run that has not come to training."""
        self.unlock()
        shutil.rmtree(self.folder, ignore_errors=True)


def check_name(option: str, name: str | None) -> None:
    """Refuse a name that is no folder's; ``option`` is where it was given."""
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"{option} is {name!r}; a run's name is made of letters, digits and . _ + = , - alone.")


def make_folder(root: Path, name: str | None, config: str) -> Path:
    """Make the folder of a new run.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the date and time.
        config: Text of its ``config.yaml``.

    Raises:
        UserError: The name is taken or no folder's name, or the folder can't be written.
    """
    check_name("--run", name)
    # It is filled under another name first: whatever kills this process, a run that is there can be resumed.
    root = root.absolute()
    made = root / f".{secrets.token_hex(6)}.tmp"
    folder = root / (name or time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        made.mkdir(parents=True)
        write_whole(made / "config.yaml", config)
        Run(made).update(status="running", started=time.strftime("%Y-%m-%d %H:%M:%S"))
        if name and folder.exists():
            _make_room(folder)
        return made.rename(_free(folder))
    except OSError as error:
        raise UserError(f"a run's folder can't be made in {root}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make_room(folder: Path) -> None:
    """Give a run that failed another name."""
    run = Run(folder)
    if run.record.get("status") != "failed" or run.in_use():
        raise UserError(
            f"{folder} exists already. Choose another --run name, or go on with that run: --resume {run.name}"
        )
    kept = folder.rename(_free(folder.with_name(f"{run.name}_failed")))
    print(f"The run {run.name} that failed is kept as {kept.name}.", flush=True)


def _free(folder: Path) -> Path:
    """The folder, or where there is one already another one with a number."""
    numbered = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return next(path for path in numbered if not path.exists()) if folder.exists() else folder


def find(root: Path, name: str | None, finished: bool) -> Run:
    """Find a run by its name, or the newest one.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the newest that is finished (and was no debugging run), or the newest that is
            neither finished nor in use.
        finished: Which of the two, where no name is given.

    Raises:
        UserError: There is no such run.
    """
    if name:
        run = Run(root.absolute() / name)
        if not run.config_file.is_file():
            known = ", ".join(run.name for run in every(root)[:5]) or "none"
            raise UserError(f"there is no run {name} in {root} (newest: {known}).")
        if run.damaged:
            raise UserError(f"{run.damaged} Remove the file, and the run counts as interrupted.")
        return run
    return _newest(root, finished)


def _newest(root: Path, finished: bool) -> Run:
    found = [run for run in every(root) if (run.record.get("status") == "finished") == finished and not run.damaged]
    found = [run for run in found if not (run.record.get("debug") if finished else run.in_use())]
    # a run with a checkpoint comes before one that was killed before its first
    for run in (*(run for run in found if any(run.checkpoints.glob("*.ckpt"))), *found):
        return run
    if finished:
        debugging = [f"{run.name} ({run.record.get('debug')})" for run in every(root) if run.status == "finished"]
        but = f" but for debugging, such as {debugging[0]}, which --run takes" if debugging else ""
        raise UserError(f"no finished run in {root}{but}. Train one with: fit; or name a checkpoint: --ckpt_path FILE")
    raise UserError(f"no unfinished run in {root} to resume. Start one with: fit")


def default_root() -> Path:
    """The folder with all runs, as ``configs/default.yaml`` names it."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, KeyError):
        options = yaml.safe_load(Path("configs/default.yaml").read_text(encoding="utf-8"))
        return Path(options["trainer"].get("default_root_dir") or "runs")
    return Path("runs")


def every(root: Path) -> list[Run]:
    """All runs of a folder, the newest first."""
    files = (file for file in root.absolute().glob("*/config.yaml") if not file.parent.name.startswith("."))
    runs = [Run(file.parent) for file in files]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def _git_state() -> dict[str, Any]:
    """The commit that the code is at, and whether it was changed since."""
    try:
        command = ["git", "status", "--porcelain=v2", "--branch"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    commit = commits[0] if commits and commits[0] != "(initial)" else None  # which stands where there is none yet
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def test_result(run: Any) -> dict[str, Any]:
    """What a run's ``test.json`` holds; nothing where it is not there or damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        return dict(json.loads((run.folder / "test.json").read_text(encoding="utf-8")))
    return {}
