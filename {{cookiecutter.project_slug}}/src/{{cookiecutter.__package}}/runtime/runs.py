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
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import UserError
from .locks import Locked

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")  # whose versions are recorded


class Run(Locked):
    """One run's folder: ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics.csv``, logger files and results.

    Args:
        folder: The folder.

    Attributes:
        record: What ``run.json`` holds: ``status`` (running, finished, failed or interrupted), times, command, git
            commit, versions, and in the end the best checkpoint.
        damaged: Why ``run.json`` can't be read, or None.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.record: dict[str, Any] = {}
        self.damaged: str | None = None
        self._since: float | None = None  # when this process began to work on it
        file = folder / "run.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            self.damaged = f"{file} can't be read: {error}."
            return
        if isinstance(record, dict):
            self.record = record
        else:
            self.damaged = f"{file} can't be read: it holds no record of a run."

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
        """Running, finished, failed or interrupted; a run is interrupted too if no process has its lock."""
        status = str(self.record.get("status", "interrupted"))
        return "interrupted" if status == "running" and not self.in_use() else status

    # ---- The record

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
            **started,
            command=" ".join(sys.argv),
            git=_git_state(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            versions={name: version for name in PACKAGES if (version := _version(name))},
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
        self.unlock()
        shutil.rmtree(self.folder, ignore_errors=True)

    def best_checkpoint(self) -> Path:
        """The checkpoint with the best value of the monitored metric; of a run that was cut short, the best so far.

        Raises:
            UserError: There is none.
        """
        best = self.record.get("best_checkpoint") or self._best_so_far()
        file = self.checkpoints / re.split(r"[\\/]", str(best))[-1] if best else None
        if file is None or not file.is_file():
            raise UserError(
                f"the run {self.name} has no checkpoint in {self.checkpoints}. Train it first, or --resume it."
            )
        return file

    def _best_so_far(self) -> Path | str | None:
        from . import checkpoints

        found = checkpoints.newest_whole(self.checkpoints, print)
        if found is None:
            return None
        last, content = found
        states = content.get("callbacks", {}).values()
        return next((state["best_model_path"] for state in states if state.get("best_model_path")), last)


def make_folder(root: Path, name: str | None, config: str) -> Path:
    """Make the folder of a new run.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the date and time.
        config: Text of its ``config.yaml``.

    Raises:
        UserError: The name is taken or no folder's name, or the folder can't be written.
    """
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"--run is {name!r}; a run's name is made of letters, digits and . _ + = , - alone.")
    # It is filled under another name first: whatever kills this process, a run that is there can be resumed.
    made = root.absolute() / f".{secrets.token_hex(6)}.tmp"
    try:
        made.mkdir(parents=True)
        run = Run(made)
        run.configure(config)
        run.update(status="running", started=time.strftime("%Y-%m-%d %H:%M:%S"))
        return _place(made, root, name)
    except OSError as error:
        raise UserError(f"a run's folder can't be made in {root.absolute()}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _place(made: Path, root: Path, name: str | None) -> Path:
    """Give a new run's folder its name."""
    for number in range(1, 1000):
        chosen = name or time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_{number}" if number > 1 else "")
        folder = root.absolute() / chosen
        if not folder.exists():
            made.rename(folder)
            return folder
        if name is not None and Run(folder).record.get("status") == "failed" and not Run(folder).in_use():
            kept = next(path for i in range(1, 1000) if not (path := root / f"{name}_failed_{i}").exists())
            folder.rename(kept)
            print(f"The run {name} that failed is kept as {kept.name}.", flush=True)
            made.rename(folder)
            return folder
        if name is not None:
            raise UserError(
                f"{folder} exists already. Choose another --run name, or go on with that run: --resume {chosen}"
            )
    raise UserError(f"no name was free for a run in {root}; give one with --run.")


def write_whole(file: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


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
            raise unknown(root, name)
        if run.damaged:
            raise UserError(f"{run.damaged} Remove the file, and the run counts as interrupted.")
        return run
    return _newest(root, finished)


def unknown(root: Path, name: str) -> UserError:
    """What to say of a name that no run has."""
    known = ", ".join(run.name for run in every(root)[:5]) or "none"
    return UserError(f"there is no run {name} in {root} (newest: {known}).")


def _newest(root: Path, finished: bool) -> Run:
    found = [run for run in every(root) if run.finished == finished and not run.damaged]
    found = [run for run in found if not (run.record.get("debug") if finished else run.in_use())]
    # a run with a checkpoint comes before one that was killed before its first
    for run in (*(run for run in found if any(run.checkpoints.glob("*.ckpt"))), *found):
        return run
    if finished:
        debugging = [f"{run.name} ({run.record.get('debug')})" for run in every(root) if run.finished]
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


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _git_state() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
