"""Run folders: chosen, recorded, and found again."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from . import checkpoints
from .errors import UserError

# How a run's folder reaches the processes that Lightning starts for the other devices: they run `main` again.
FOLDER_VARIABLE = "LIGHTNING_RUN_FOLDER"


class Run:
    """One run's folder: ``config.yaml``, ``run.json``, ``checkpoints/``, ``metrics.csv``, logger files and results.

    Args:
        folder: The folder.

    Attributes:
        record: What ``run.json`` holds: ``status`` (running, finished, failed or interrupted), times, command, git
            commit, versions, and in the end the best checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, Any] = {}
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

    def update(self, **values: Any) -> None:
        """Change values of the record and write it, whole or not at all."""
        self.record.update(values)
        _write_whole(self.folder / "run.json", json.dumps(self.record, indent=2, default=str) + "\n")

    def begin(self, **values: Any) -> None:
        """Record that the run is under way, and what it would take to repeat it."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        started = {"resumed": now} if "started" in self.record else {"started": now}
        self.update(
            status="running",
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

    def configure(self, text: str) -> None:
        """Write ``config.yaml``."""
        _write_whole(self.config_file, text)

    def discard(self) -> None:
        """Remove the folder if no more was put into it than what it was made with."""
        if {path.name for path in self.folder.iterdir()} <= {"config.yaml", "run.json"}:
            shutil.rmtree(self.folder, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """The checkpoint from which the run goes on, if it has come that far."""
        return checkpoints.newest_whole(self.checkpoints, print)

    def best_checkpoint(self) -> Path:
        """The checkpoint with the best value of the monitored metric.

        Raises:
            UserError: There is none.
        """
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
    return Run(shared_by_ranks(lambda: _make_folder(root, name, config)))


def _make_folder(root: Path, name: str | None, config: str) -> Path:
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"--run is {name!r}; a run's name is made of letters, digits and . _ + = , - alone.")
    # Filled beside its place: whatever kills this process, a run that is there can be resumed.
    made = root.absolute() / f".{os.getpid()}.tmp"
    try:
        made.mkdir(parents=True)
        run = Run(made)
        run.configure(config)
        run.update(status="running", started=time.strftime("%Y-%m-%d %H:%M:%S"))
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


def _write_whole(file: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def shared_by_ranks(choose: Callable[[], Path]) -> Path:
    """Let rank 0 choose a folder, and give the other processes of the same training its choice."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started all ranks, and keeps a store for them
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        key = f"run_folder/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        if os.environ["RANK"] == "0":
            store.set(key, str(choose()))
        return Path(store.get(key).decode())
    if launched_by_rank_0():
        return Path(os.environ[FOLDER_VARIABLE])
    folder = choose()
    os.environ[FOLDER_VARIABLE] = str(folder)  # Lightning's launcher hands the environment on
    return folder


def launched_by_rank_0() -> bool:
    """Whether Lightning's launcher in another process started this one."""
    return (
        "TORCHELASTIC_RUN_ID" not in os.environ
        and os.environ.get("LOCAL_RANK", "0") != "0"
        and FOLDER_VARIABLE in os.environ
    )


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
        run = Run(shared_by_ranks(lambda: root.absolute() / name))
        if not run.config_file.is_file():
            known = ", ".join(run.name for run in _all(root)[:5]) or "none"
            raise UserError(f"there is no run {name} in {root} (newest: {known}).")
        return run
    return Run(shared_by_ranks(lambda: _newest(root, finished)))


def _newest(root: Path, finished: bool) -> Path:
    for run in _all(root):
        if run.finished == finished:
            return run.folder
    if finished:
        raise UserError(f"no finished run in {root}. Train one with: fit; or name a checkpoint: --ckpt_path FILE")
    raise UserError(f"no unfinished run in {root} to resume. Start one with: fit")


def _all(root: Path) -> list[Run]:
    runs = [Run(file.parent) for file in root.absolute().glob("*/config.yaml")]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def _git_state() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
