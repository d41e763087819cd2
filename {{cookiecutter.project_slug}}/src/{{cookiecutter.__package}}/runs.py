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

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.distributed import TCPStore

from .errors import UserError, reason

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
        temporary = self.folder / "run.json.tmp"
        temporary.write_text(json.dumps(self.record, indent=2, default=str) + "\n", encoding="utf-8")
        os.replace(temporary, self.folder / "run.json")

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

    def discard(self) -> None:
        """Remove the folder of a run that has not come to training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """The checkpoint from which the run goes on, if it has come that far."""
        file = self.checkpoints / "last.ckpt"
        return file if file.is_file() else None

    def best_checkpoint(self) -> Path:
        """The checkpoint with the best value of the monitored metric.

        Raises:
            UserError: There is none.
        """
        best = self.record.get("best_checkpoint")
        if best is None and (last := self.last_checkpoint()):  # a run that was cut short has not recorded it
            states = read_checkpoint(last).get("callbacks", {})
            paths = [state["best_model_path"] for state in states.values() if state.get("best_model_path")]
            best = paths[0] if paths else last
        file = self.checkpoints / re.split(r"[\\/]", str(best))[-1] if best else None
        if file is None or not file.is_file():
            raise UserError(
                f"the run {self.name} has no checkpoint in {self.checkpoints}. Train it first, or --resume it."
            )
        return file


def create(root: Path, name: str | None) -> Run:
    """Make the folder of a new run; processes of other ranks receive the one that rank 0 made.

    Args:
        root: The folder with all runs.
        name: The run's name; None takes the date and time.

    Raises:
        UserError: The name is taken or no folder's name, or the folder can't be written.
    """
    return Run(shared_by_ranks(lambda: _make_folder(root, name)))


def _make_folder(root: Path, name: str | None) -> Path:
    if name is not None and (not re.fullmatch(r"[\w.+=,-]+", name) or name.strip(".") == ""):
        raise UserError(f"--run is {name!r}; a run's name is made of letters, digits and . _ + = , - alone.")
    for number in range(1, 1000):
        chosen = name or time.strftime("%Y-%m-%d_%H-%M-%S") + (f"_{number}" if number > 1 else "")
        folder = root.absolute() / chosen
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if name is None and folder.is_dir():
                continue
            raise UserError(
                f"{folder} exists already. Choose another --run name, or go on with that run: --resume {chosen}"
            ) from None
        except OSError as error:
            raise UserError(f"the run's folder {folder} can't be made: {error.strerror or error}.") from error
    raise UserError(f"no name was free for a run in {root}; give one with --run.")


def shared_by_ranks(choose: Callable[[], Path]) -> Path:
    """Let rank 0 choose a folder, and give the other processes of the same training its choice."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started all ranks, and keeps a store for them
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        key = f"run_folder/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        if os.environ["RANK"] == "0":
            store.set(key, str(choose()))
        return Path(store.get(key).decode())
    if os.environ.get("LOCAL_RANK", "0") != "0" and FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE])
    folder = choose()
    os.environ[FOLDER_VARIABLE] = str(folder)  # Lightning's launcher hands the environment on
    return folder


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
    found = [run for run in _all(root) if run.finished == finished]
    # rather a run that has got somewhere than one that was killed before its first checkpoint
    for run in (*(run for run in found if run.last_checkpoint()), *found):
        return run.folder
    if finished:
        raise UserError(f"no finished run in {root}. Train one with: fit; or name a checkpoint: --ckpt_path FILE")
    raise UserError(f"no unfinished run in {root} to resume. Start one with: fit")


def _all(root: Path) -> list[Run]:
    runs = [Run(file.parent) for file in root.absolute().glob("*/config.yaml")]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it holds.

    Raises:
        UserError: It is missing, or can't be read.
    """
    file = Path(file)
    if "://" in str(file) or re.match(r"\w+:/\w", str(file)):
        raise UserError(f"the checkpoint {file} is an address. Download it, and give the path of the file.")
    if not file.is_file():
        raise UserError(f"the checkpoint {file} does not exist.")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip, pickle or I/O error: whatever the reader raises
        raise UserError(f"the checkpoint {file} can't be read: {reason(error)}.") from error


def check_model(file: str | Path, model: LightningModule) -> None:
    """Refuse a checkpoint of another model.

    Raises:
        UserError: It is of another model, or of none.
    """
    checkpoint = read_checkpoint(file)
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise UserError(
            f"the checkpoint {file} is none that a training has written. Give one of runs/NAME/checkpoints."
        )
    weights, here = ({n: tuple(w.shape) for n, w in d.items()} for d in (checkpoint["state_dict"], model.state_dict()))
    if weights == here or not model.strict_loading or is_overridden("configure_model", model):
        return
    # the options say it best; where they are the same, the network's code has changed
    shaping = ("num_classes", "input_shape", "network")
    options, ours = (
        flat({name: of.get(name) for name in shaping}) for of in (checkpoint["hyper_parameters"], model.hparams)
    )
    for there, now in ((options, ours), (weights, here)):
        told = [f"{n} is {there.get(n)} there and {now.get(n)} here" for n in there | now if there.get(n) != now.get(n)]
        if told:
            raise UserError(
                f"the checkpoint {file} is of another model: {', '.join(told[:3])}. Give the options that it was"
                " trained with, as they stand in its run's config.yaml, and the network as it was."
            )


def flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """Options by their dotted names."""
    if not isinstance(options, dict) or not options:
        return {prefix: options}
    return {k: v for name, value in options.items() for k, v in flat(value, f"{prefix}.{name}".lstrip(".")).items()}


def _git_state() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
