"""Checkpoint files that are whole or not there, and are read without executing anything that they hold."""

from __future__ import annotations

import errno
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from .. import files
from ..errors import UserError, reason
from ..runs import Run
from ..runs.options import flat

LAST = "last.ckpt"  # the state to go on from
PREVIOUS = "previous.ckpt"  # the one before it, should that file be damaged


class WholeFiles(TorchCheckpointIO):
    """Write a checkpoint beside its final name, and give it that name when all of it is on the disk.

    Lightning writes to TMPDIR and moves the file, which on another file system is a copy that can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint.

        Raises:
            UserError: The disk is full or can't be written. What was there before is still there.
        """
        path, content = Path(path), io.BytesIO()
        try:
            torch.save(checkpoint, content)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, content.getbuffer(), path.with_name(PREVIOUS) if path.name == LAST else None)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the checkpoint {path} can't be written: {error.strerror or error}.") from error
            size = content.getbuffer().nbytes / 1e6
            raise UserError(
                f"the disk is full: {path} needs {size:.1f} MB. The last checkpoint before it is kept; make room, and"
                " go on with: fit --resume"
            ) from error


def read(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything that it holds.

    Raises:
        UserError: It is an address, is missing, was cut short or damaged, or can't be read.
    """
    file = Path(file)
    if "://" in str(file) or re.match(r"\w+:/\w", str(file)):
        raise UserError(f"the checkpoint {file} is an address. Download it, and give the path of the file.")
    if not file.is_file():
        raise UserError(f"the checkpoint {file} does not exist.")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():  # `torch.load` does not look at the sums
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip, pickle or I/O error: whatever the reader raises
        raise UserError(f"the checkpoint {file} can't be read: {reason(error)}.") from error


def keep_plain(model: LightningModule) -> None:
    """Leave classes and functions out of a model's ``hparams``, for a checkpoint that holds them can't be read again.

    Under the command line there are none. In plain Python, ``load_from_checkpoint`` takes them as arguments once more.
    """
    for name in [name for name, value in model.hparams.items() if callable(value)]:
        del model.hparams[name]


def newest_whole(folder: Path, say: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """Choose the checkpoint to go on from: the last one, or what is next if that is damaged.

    Args:
        folder: A run's checkpoints.
        say: Is called with a sentence on each file that is passed over.

    Returns:
        The file and what it holds, or None if there is no checkpoint.

    Raises:
        UserError: There are checkpoints, and none can be read.
    """
    first = [folder / LAST, folder / PREVIOUS]
    rest = sorted((f for f in folder.glob("*.ckpt") if f not in first), key=lambda f: f.stat().st_mtime, reverse=True)
    there = [file for file in (*first, *rest) if file.is_file()]
    for file in there:
        try:
            checkpoint = read(file)
            position(file, checkpoint)
        except UserError as error:
            say(f"{error} It is passed over.")
        else:
            return file, checkpoint
    if there:
        raise UserError(f"none of the {len(there)} files {folder / '*.ckpt'} can be used. Start a new run with: fit")
    return None


class Position(NamedTuple):
    """Where a training was when it was saved.

    Args:
        epoch: Whole epochs before it.
        batch: Batches of the next epoch before it.
        step: The number that loggers give to what comes next.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


def position(file: object, checkpoint: Mapping[str, Any]) -> Position:
    """Tell where a training was when its checkpoint was saved.

    Raises:
        UserError: The checkpoint has weights alone, or lacks other parts of a training's state.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
        in_epoch = epochs["started"] > epochs["processed"]
        step = loop["epoch_loop.state_dict"].get("_batches_that_stepped", checkpoint["global_step"])
        for part, kind in {"callbacks": dict, "optimizer_states": list, "lr_schedulers": list}.items():
            if not isinstance(checkpoint[part], kind):
                raise TypeError(part)
        return Position(epochs["processed"], batches["processed"] if in_epoch else 0, step)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the checkpoint {file} lacks what a training needs to go on from it ({error}).") from error


def check_model(file: str | Path, checkpoint: Mapping[str, Any], model: LightningModule) -> None:
    """Refuse a checkpoint of another model.

    Args:
        file: The checkpoint's file, for the message.
        checkpoint: What it holds.
        model: The model that is to take its weights.

    Raises:
        UserError: It is of another model, or of none.
    """
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(
            f"the checkpoint {file} is none that a training has written. Give one of runs/NAME/checkpoints."
        )
    weights, here = ({n: tuple(w.shape) for n, w in d.items()} for d in (checkpoint["state_dict"], model.state_dict()))
    if weights == here or not model.strict_loading or is_overridden("configure_model", model):
        return
    # the options say it best; where they are the same, the network's code has changed
    options, ours = (flat(dict(of)) for of in (checkpoint.get("hyper_parameters", {}), model.hparams))
    for there, now in ((options, ours), (weights, here)):
        # names that begin with "_" are Lightning's own
        names = [name for name in there | now if there.get(name) != now.get(name) and not name.startswith("_")]
        names.sort(key=lambda name: (name.count("."), name))  # the order that they are linked in is not always the same
        if names:
            differences = ", ".join(f"{name} is {there.get(name)} there and {now.get(name)} here" for name in names[:3])
            raise UserError(
                f"the checkpoint {file} is of another model: {differences}. Give the options that it was trained"
                " with, as they stand in its run's config.yaml, and the network as it was."
            )


def best_checkpoint(run: Run) -> Path:
    """Return the checkpoint with the best value of the monitored metric; of an unfinished run, the best so far.

    Raises:
        UserError: The run has no checkpoint.
    """
    best = run.record.get("best_checkpoint")
    if not best and (found := newest_whole(run.checkpoints, print)):
        states = found[1]["callbacks"].values()
        best = next((state["best_model_path"] for state in states if state.get("best_model_path")), found[0])
    file = run.checkpoints / re.split(r"[\\/]", str(best))[-1] if best else None
    if file is None or not file.is_file():
        raise UserError(f"the run {run.name} has no checkpoint in {run.checkpoints}. Train it first, or --resume it.")
    return file
