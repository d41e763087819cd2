"""Folders of runs: created, recorded, locked and found. Imports neither torch nor Lightning."""

import contextlib
import csv
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock

from ..errors import UserError
from ..files import write_whole
from ..names import program

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")  # whose versions are recorded
LOCK_TIMEOUT = 2.0  # seconds: a question holds the lock for an instant, and workers outlive a killed process briefly


class Run:
    """One run's folder: ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics.csv``, logger files and results.

    Attributes:
        record: The content of ``run.json``: ``status`` (running, finished, failed or interrupted), times, command, git
            commit, versions, and in the end the best checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.config_file = folder / "config.yaml"
        self.checkpoints = folder / "checkpoints"
        self.record: dict[str, Any] = {}
        self._updated: float | None = None  # when this process, which works on the run, last wrote the record
        self._lock_file = folder / ".lock"
        self._lock: filelock.BaseFileLock | None = None
        file = folder / "run.json"
        try:
            self.record = dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, RecursionError) as error:
            print(f"note: {file} can't be read ({error}), so nothing is known of this run.", file=sys.stderr)

    @property
    def status(self) -> str:
        """Running, finished, failed or interrupted. A run that no process trains is interrupted."""
        status = str(self.record.get("status", "interrupted"))
        return "interrupted" if status == "running" and not self.in_use() else status

    def lock(self) -> None:
        """Lock the run until `unlock`. The system frees the lock when the process ends, however it ends."""
        lock = filelock.FileLock(self._lock_file)
        try:
            lock.acquire(timeout=LOCK_TIMEOUT)
            self._lock = lock
        except filelock.Timeout as error:
            raise UserError(f"another process trains the run {self.name!r}. Wait, or start a new run.") from error
        except (OSError, NotImplementedError):
            print(f"{self._lock_file} can't be locked: start no second process on this run.", flush=True)

    def unlock(self) -> None:
        """Release the lock, if this process holds it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def in_use(self) -> bool:
        """Return whether a living process holds the lock, as far as this machine can see."""
        if self._lock is not None:
            return True
        if not self._lock_file.is_file():
            return False
        try:
            with filelock.FileLock(self._lock_file).acquire(blocking=False):
                return False
        except filelock.Timeout:
            return True
        except (OSError, NotImplementedError):  # a read-only folder, or a file system without locks
            return False

    def update(self, **values: Any) -> None:
        """Change values of the record, and write it whole or not at all."""
        self.record.update(values)
        if self._updated is not None:
            now = time.time()
            self.record["seconds"] = round(self.record.get("seconds", 0.0) + now - self._updated, 2)
            self._updated = now
        write_whole(self.folder / "run.json", json.dumps(self.record, indent=2, default=str, ensure_ascii=False) + "\n")

    def begin(self, command: str, **values: Any) -> None:
        """Record that the run is under way by a command, with everything that is needed to repeat it."""
        self._updated = time.time()
        self.update(
            **{"resumed" if "command" in self.record else "started": _now()},
            status="running",
            command=command,
            git=_git_state(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            versions={name: found.version for name in PACKAGES for found in metadata.distributions(name=name)},
            **values,
        )

    def end(self, status: str, **values: Any) -> None:
        """Record how the run ended."""
        self.update(status=status, ended=_now(), **values)
        self._updated = None

    def discard(self) -> None:
        """Remove the folder of a run that was never trained."""
        self.unlock()
        shutil.rmtree(self.folder, ignore_errors=True)


def check_name(option: str, name: str | None) -> None:
    """Refuse a name that can't be a run's; ``option`` is where it was given."""
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"{option} is {name!r}; a run's name has only letters, digits and . _ + = , -")


def make_folder(root: Path, name: str | None, config: str) -> Path:
    """Make the folder of a new run with the text of its ``config.yaml``; without a name it is the date and time."""
    check_name("--run", name)
    root = root.absolute()
    if name and (root / name).exists():
        raise UserError(f"{root / name} exists already. Choose another --run name, or resume that run: --resume {name}")
    # filled under another name first, so that any folder of a run can be resumed, whenever this process is killed
    temporary = root / f".{secrets.token_hex(6)}.tmp"
    try:
        temporary.mkdir(parents=True)
        write_whole(temporary / "config.yaml", config)
        Run(temporary).update(status="running", started=_now())
        folder = root / (name or time.strftime("%Y-%m-%d_%H-%M-%S"))
        while not name and folder.exists():  # another run has begun in this second
            time.sleep(0.1)
            folder = root / time.strftime("%Y-%m-%d_%H-%M-%S")
        return temporary.rename(folder)
    except OSError as error:
        raise UserError(f"a run's folder can't be made in {root}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def results(run: Run, file: str = "test.json") -> dict[str, Any]:
    """Return a run's ``test.json`` or ``validate.json``, the metric that counts first; empty if it can't be read."""
    headline = (run.record.get("headline") or [""])[0]
    monitored = str(run.record.get("metric")).replace("val", "test", 1)
    content: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        content = dict(json.loads((run.folder / file).read_text(encoding="utf-8")))
    names = sorted(content, key=lambda name: (name.partition("/")[2] != headline, name != monitored, "loss" in name))
    return {name: content[name] for name in names}


def metric_rows(run: Run) -> list[dict[str, str]]:
    """Return the rows of a run's ``metrics.csv``, or of the CSVLogger of its plain script; empty if there is none."""
    for file in (run.folder / "metrics.csv", *map(Path, run.record.get("csv_files", ()))):
        with contextlib.suppress(OSError, ValueError, csv.Error), file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    return []


def default_root() -> Path:
    """Return the folder of all runs that ``configs/default.yaml`` names, or else ``runs``."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, KeyError):
        options = yaml.safe_load(Path("configs/default.yaml").read_text(encoding="utf-8"))
        return Path(options["trainer"].get("default_root_dir") or "runs")
    return Path("runs")


def every(root: Path) -> list[Run]:
    """Return all runs of a folder, the newest first."""
    files = root.absolute().glob("*/config.yaml")
    runs = [Run(file.parent) for file in files if not file.parent.name.startswith(".")]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def find(root: Path, name: str | None, finished: bool) -> Run:
    """Find a run of a folder by its name.

    Without a name, find the newest run that is finished and not for debugging, or one to resume.
    """
    if name:
        run = Run(root.absolute() / name)
        if not run.config_file.is_file():
            known = ", ".join(run.name for run in every(root)[:5]) or "none"
            raise UserError(f"the folder {root} has no run {name!r}. Its newest runs: {known}.")
        return run
    runs = every(root)
    if finished:
        found = [run for run in runs if run.record.get("status") == "finished" and not run.record.get("debug")]
        if not found:
            text = f"{root} has no finished run; those with --debug do not count. Train one with: {program()} fit."
            raise UserError(f"{text} Or name a run or a checkpoint: --run NAME, --ckpt_path FILE")
    else:
        found = [run for run in runs if run.record.get("status") != "finished" and not run.in_use()]
        if not found:
            raise UserError(f"there is no run to resume in the folder {root}. Start one with: {program()} fit")
        found.sort(key=lambda run: run.record.get("status") == "failed")  # what failed may fail again
    return next((run for run in found if any(run.checkpoints.glob("*.ckpt"))), found[0])


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _git_state() -> dict[str, Any]:
    """Return the commit of the code, and whether the code was changed since."""
    command = ["git", "status", "--porcelain=v2", "--branch"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    commit = lines[0].removeprefix("# branch.oid ").replace("(initial)", "") or None
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}
