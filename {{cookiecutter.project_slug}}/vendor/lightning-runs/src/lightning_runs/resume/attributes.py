"""Plain attributes of the user's modules and callbacks, which Lightning's checkpoints lack."""

from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import pytorch_lightning as pl
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning.callbacks import Callback
from torch import Tensor, equal, from_numpy

from ..runs import ranks

_LIBRARIES = ("pytorch_lightning", "lightning_fabric", "lightning_runs", "torch", "torchmetrics")
_OF_LIGHTNING = vars(pl.LightningModule()).keys()
Attributes = dict[str, dict[str, Any]]  # of each owner, by its name


class AttributeState(Callback):
    """Save the attributes that have changed since `setup` in every checkpoint, and restore them with the weights.

    Owners are the LightningModule, the user's modules in it, and the user's callbacks without a ``state_dict``. Saved
    are numbers, texts, tensors, and lists, tuples and dicts of them, and attributes that are arrays, sets or deques.
    """

    def __init__(self) -> None:
        self._initial: Attributes = {}
        self._restored: Attributes = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note the attributes before the training."""
        if stage == "fit":
            self._initial = attributes(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the changed attributes of each process."""
        changed: Attributes = {}
        for owner, now in attributes(trainer, pl_module).items():
            before = self._initial.get(owner, {})
            new = {name: value for name, value in now.items() if not _is_same(value, before.get(name))}
            if new:
                changed[owner] = new
        checkpoint["attributes"] = ranks.gather(move_data_to_device(changed, "cpu"), trainer.world_size)

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore them for a test; a training waits for the hooks that begin it."""
        parts = checkpoint.get("attributes") or [{}]
        self._restored = parts[min(trainer.global_rank, len(parts) - 1)]
        if trainer.state.fn != "fit":
            self._restore(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them for the module's hooks …"""
        restore(self._restored, owners_of(trainer, pl_module), pl_module.device)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """… and once more, because such hooks may set them."""
        self._restore(trainer, pl_module)

    def _restore(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._restored:
            restore(self._restored, owners_of(trainer, pl_module), pl_module.device)
            self._restored = {}


def owners_of(trainer: Any, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Return the user's modules and callbacks by their names."""
    modules = {f"module {name}".strip(): module for name, module in pl_module.named_modules()}
    callbacks = {
        f"callback {one.state_key}": one
        for one in (trainer.callbacks if trainer is not None else ())
        if type(one).state_dict is Callback.state_dict
    }
    found = modules | callbacks
    return {name: one for name, one in found.items() if type(one).__module__.partition(".")[0] not in _LIBRARIES}


def attributes(trainer: Any, pl_module: pl.LightningModule) -> Attributes:
    """Return plain copies of the plain attributes of each owner."""
    found: Attributes = {}
    for key, owner in owners_of(trainer, pl_module).items():
        found[key] = {}
        for name in vars(owner).keys() - _OF_LIGHTNING:
            with suppress(TypeError):
                found[key][name] = _encoded(vars(owner)[name])
    return found


def restore(saved: Attributes, owners: dict[str, Any], device: Any) -> None:
    """Set attributes, each in the type that it has now."""
    saved = move_data_to_device(saved, device)
    for key in saved.keys() & owners:
        for name, value in saved[key].items():
            setattr(owners[key], name, _decoded(value, getattr(owners[key], name, None)))


def _encoded(value: Any) -> Any:
    """Return a copy in plain types; raise TypeError if there is none."""
    if isinstance(value, np.ndarray):
        return from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset | deque):
        return _plain(list(value))
    return _plain(dict(value) if isinstance(value, dict) else value)


def _decoded(value: Any, current: Any) -> Any:
    """Return a plain value in the type of the current one."""
    if isinstance(current, np.ndarray):
        return value.cpu().numpy()
    if isinstance(current, np.generic | set | frozenset):
        return type(current)(value)
    if isinstance(current, deque):
        return deque(value, current.maxlen)
    if isinstance(current, dict) and type(current) is not dict:
        changed = current.copy()
        changed.clear()
        changed.update(value)
        return changed
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError


def _is_same(value: Any, other: Any) -> bool:
    if type(value) is not type(other):
        return False
    if isinstance(value, Tensor):
        return value.shape == other.shape and equal(value, other.to(value.device))
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_is_same, value, other))
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_is_same(value[key], other[key]) for key in value)
    return value == other
