"""Checkpoint files: written whole or not at all, and read without executing their content."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.nn.parameter import is_lazy

from .. import files
from ..errors import UserError, reason
from ..runs import Run, find
from ..training.pretrained import PretrainedNetwork

LAST = "last.ckpt"  # the state that a run resumes from
PREVIOUS = "previous.ckpt"  # the state before it, in case that file is damaged
HYPERPARAMETERS = (LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint whole or not at all: Lightning writes to TMPDIR, from where it may be copied in part."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint, without classes and functions among hyperparameters: to read these would execute code."""
        path = Path(path)
        content = io.BytesIO()
        for name in HYPERPARAMETERS:
            if any(callable(value) for value in checkpoint.get(name, {}).values()):
                checkpoint[name] = {key: value for key, value in checkpoint[name].items() if not callable(value)}
        torch.save(checkpoint, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, content.getbuffer(), path.with_name(PREVIOUS) if path.name == LAST else None)


def read(file: str | Path) -> dict[str, Any]:
    """Read a checkpoint without executing its content."""
    file = Path(file)
    if not file.is_file():
        raise UserError(f"there is no checkpoint file {file} on this machine.")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # `torch.load` does not compare checksums
                if damaged:
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip, pickle or I/O error: whatever the reader raises
        raise UserError(f"the checkpoint {file} can't be read: {reason(error)}.") from error


def newest_readable(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last checkpoint of a folder, or the next newest if it is damaged, and its content."""
    kept = sorted(folder.glob("*.ckpt"), key=lambda one: (one.name != LAST, one.name != PREVIOUS, -one.stat().st_mtime))
    for file in kept:
        try:
            checkpoint = read(file)
            position(file, checkpoint)
        except UserError as error:
            print(f"{error} It is skipped.")
        else:
            return file, checkpoint
    if kept:
        raise UserError(f"none of the {len(kept)} files {folder / '*.ckpt'} can be used. Start a new run with: fit")
    return None


class Position(NamedTuple):
    """How far a training was when it was saved."""

    epoch: int = 0  # number of finished epochs
    batch: int = 0  # number of finished batches of the next epoch
    step: int = 0  # the number that loggers give to the next step


def position(file: object, checkpoint: Mapping[str, Any]) -> Position:
    """Return how far a training was when its checkpoint was saved."""
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        batches = loop["epoch_loop.batch_progress"]["current"]
        in_epoch = epochs["started"] > epochs["processed"]
        step = loop["epoch_loop.state_dict"].get("_batches_that_stepped", checkpoint["global_step"])
        if not isinstance(checkpoint["callbacks"], dict):
            raise TypeError("callbacks")
        return Position(epochs["processed"], batches["processed"] if in_epoch else 0, step)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"the checkpoint {file} lacks a part that a resumed training needs ({error}).") from error


def check_model(file: str | Path, checkpoint: Mapping[str, Any], model: LightningModule) -> None:
    """Refuse the content of a checkpoint file that was not saved by such a model."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise UserError(f"{file} is not a checkpoint of a training. Give a file from runs/NAME/checkpoints.")
    if is_overridden("configure_model", model) or is_overridden("on_load_checkpoint", model):
        return  # such a hook may change one of the two before Lightning loads it
    try:
        model.load_state_dict(checkpoint["state_dict"], strict=model.strict_loading)
    except RuntimeError as error:
        text = shorten(str(error), 400, placeholder=" …")
        hint = "Use the options in its run's config.yaml, and the same network code."
        raise UserError(f"the checkpoint {file} does not fit this model: {text} {hint}") from error


def best_checkpoint(run: Run) -> Path:
    """Return the checkpoint with the best value of the monitored metric; of an unfinished run, the best so far."""
    best = run.record.get("best_checkpoint")
    newest = None if best else newest_readable(run.checkpoints)
    if newest is not None:
        paths = [state.get("best_model_path") for state in newest[1]["callbacks"].values()]
        best = next((path for path in paths if path), newest[0])
    file = run.checkpoints / Path(best).name if best else None
    if file is None or not file.is_file():
        raise UserError(f"the run {run.name} has no checkpoint in {run.checkpoints}. Train it first, or --resume it.")
    return file


class StartingWeights(Callback):
    """Start a run from the weights of a file, or of another run's best checkpoint: the option ``--weights``.

    A file is a checkpoint, or the ``state_dict`` of such a module. Without ``strict``, weights that are missing, not in
    the model, or of another shape are left out. ``root`` is the folder of all runs.
    """

    def __init__(self, source: str, strict: bool, root: Path, run: Run | None) -> None:
        file = Path(source).absolute()
        self.file = file if file.is_file() else best_checkpoint(find(root, source, False))
        content: Any = read(self.file)
        self.weights: Any = content.get("state_dict", content) if isinstance(content, dict) else {}
        self.strict = strict
        self.run = run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights, once the module has its layers."""
        own = pl_module.state_dict()
        lazy = {name for name, value in own.items() if is_lazy(value)}  # get their shape by the first batch
        shapes = {name: getattr(value, "shape", ()) for name, value in own.items() if name not in lazy}
        fitting = {k: v for k, v in self.weights.items() if k in lazy or shapes.get(k) == getattr(v, "shape", ())}
        left_out = [name for name in {**own, **self.weights} if name not in fitting]
        model = type(pl_module).__name__
        mistake = "" if fitting else f"nothing in {self.file} fits {model}."
        try:
            pl_module.load_state_dict(self.weights if self.strict else fitting, strict=self.strict)
        except RuntimeError as error:
            text = f"does not fit {model}: {shorten(str(error), 1000, placeholder=' …')}"
            mistake = mistake or f"{self.file} {text} To load only those that fit: --weights_strict false"
        if mistake:  # the first process prints it
            raise UserError(f"--weights: {mistake}") if trainer.is_global_zero else SystemExit(1)
        for part in pl_module.modules():
            if isinstance(part, PretrainedNetwork):
                part.weights = None  # which it would read next
        if trainer.is_global_zero:
            note = f", without {', '.join(left_out)}" if left_out else ""
            print(f"Starting weights: {files.relative_path(self.file)}{note}", flush=True)
            if self.run is not None:
                self.run.update(weights=str(self.file), weights_left_out=left_out)
