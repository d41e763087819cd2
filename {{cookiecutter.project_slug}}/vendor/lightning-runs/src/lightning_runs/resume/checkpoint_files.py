"""Checkpoint files: written whole or not at all, and read without executing their content."""

import errno
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from .. import files
from ..errors import UserError, reason
from ..runs import Run

LAST = "last.ckpt"  # the state that a run resumes from
PREVIOUS = "previous.ckpt"  # the state before it, in case that file is damaged
HYPERPARAMETERS = (LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final name, and rename it when all of it is on the disk.

    Lightning writes to TMPDIR and moves the file, which on another file system is a copy that can be cut short.

    Classes and functions among the hyperparameters are left out, because a checkpoint with them can't be read without
    executing code. ``load_from_checkpoint`` takes them as arguments again.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        path = Path(path)
        content = io.BytesIO()
        for name in HYPERPARAMETERS:
            if any(callable(value) for value in checkpoint.get(name, {}).values()):
                checkpoint[name] = {key: value for key, value in checkpoint[name].items() if not callable(value)}
        try:
            torch.save(checkpoint, content)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, content.getbuffer(), path.with_name(PREVIOUS) if path.name == LAST else None)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the checkpoint {path} can't be written: {error.strerror or error}.") from error
            size = content.getbuffer().nbytes / 1e6
            raise UserError(
                f"the disk is full: {path} needs {size:.1f} MB. The last checkpoint before it is kept. Make room, then"
                " resume with: fit --resume"
            ) from error


def read(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint without executing its content."""
    file = Path(file)
    if "://" in str(file) or re.match(r"\w+:/\w", str(file)):
        raise UserError(f"the checkpoint {file} is an address. Download it, and give the file's path.")
    if not file.is_file():
        raise UserError(f"the checkpoint {file} does not exist.")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # `torch.load` does not compare checksums
                if damaged:
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip, pickle or I/O error: whatever the reader raises
        raise UserError(f"the checkpoint {file} can't be read: {reason(error)}.") from error


def newest_readable(folder: Path, report: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """Return the last checkpoint of a folder, or the next newest if that is damaged, and its content; None without any.

    ``report`` is called with a sentence about each file that is skipped.
    """
    first = [folder / LAST, folder / PREVIOUS]
    rest = [file for file in folder.glob("*.ckpt") if file not in first]
    rest.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    found = [file for file in (*first, *rest) if file.is_file()]
    for file in found:
        try:
            checkpoint = read(file)
            position(file, checkpoint)
        except UserError as error:
            report(f"{error} It is skipped.")
        else:
            return file, checkpoint
    if found:
        raise UserError(f"none of the {len(found)} files {folder / '*.ckpt'} can be used. Start a new run with: fit")
    return None


class Position(NamedTuple):
    """How far a training was when it was saved.

    Args:
        epoch: Number of finished epochs.
        batch: Number of finished batches of the next epoch.
        step: The number that loggers give to the next step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


def position(file: object, checkpoint: Mapping[str, Any]) -> Position:
    """Return how far a training was when its checkpoint was saved."""
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        batches = loop["epoch_loop.batch_progress"]["current"]
        in_epoch = epochs["started"] > epochs["processed"]
        step = loop["epoch_loop.state_dict"].get("_batches_that_stepped", checkpoint["global_step"])
        for part, kind in {"callbacks": dict, "optimizer_states": list, "lr_schedulers": list}.items():
            if not isinstance(checkpoint[part], kind):
                raise TypeError(part)
        return Position(epochs["processed"], batches["processed"] if in_epoch else 0, step)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the checkpoint {file} lacks a part that a resumed training needs ({error}).") from error


def check_model(file: str | Path, checkpoint: Mapping[str, Any], model: LightningModule) -> None:
    """Refuse the content of a checkpoint file that was not saved by such a model."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"no training has written the checkpoint {file}. Give one of runs/NAME/checkpoints.")
    saved_shapes = _shapes(checkpoint["state_dict"])
    shapes = _shapes(model.state_dict())
    if saved_shapes == shapes or not model.strict_loading or is_overridden("configure_model", model):
        return
    names = [name for name in saved_shapes.keys() | shapes.keys() if saved_shapes.get(name) != shapes.get(name)]
    names.sort(key=lambda name: (name.count("."), name))
    pairs = [f"{name} is {saved_shapes.get(name)} there and {shapes.get(name)} here" for name in names[:3]]
    raise UserError(
        f"the checkpoint {file} is of another model: {', '.join(pairs)}. Give the options that it was trained with, as"
        " its run's config.yaml has them, and the same network."
    )


def best_checkpoint(run: Run) -> Path:
    """Return the checkpoint with the best value of the monitored metric; of an unfinished run, the best so far."""
    best = run.record.get("best_checkpoint")
    newest = None if best else newest_readable(run.checkpoints, print)
    if newest is not None:
        paths = [state.get("best_model_path") for state in newest[1]["callbacks"].values()]
        best = next((path for path in paths if path), newest[0])
    file = run.checkpoints / re.split(r"[\\/]", str(best))[-1] if best else None
    if file is None or not file.is_file():
        raise UserError(f"the run {run.name} has no checkpoint in {run.checkpoints}. Train it first, or --resume it.")
    return file


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}
