"""The state of each process that Lightning's checkpoints lack: metrics, trained layers, and the user's attributes."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import nn
from torch.utils.data import Dataset
from torchmetrics import Metric

from ..runs import ranks

# The latest values, by which callbacks and schedules choose.
_LATEST = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
# What ModelCheckpoint and EarlyStopping compare with; without sync_dist each process has values of its own.
_SCORES = ("best_model_score", "kth_value", "best_k_models", "best_score", "wait_count")
# Modules and callbacks of these packages have no attributes of the user's.
_LIBRARIES = ("pytorch_lightning", "lightning_fabric", "lightning_runs", "torch", "torchmetrics")
_ENTRIES = 100  # of a list or dict, which may be objects of the user's
_OF_LIGHTNING = vars(pl.LightningModule()).keys()
Attributes = dict[str, dict[str, Any]]  # of each owner, by its name
ARRAY = "array of NumPy"  # key of a dict that stands for an array or a number of NumPy


def state_of_all_ranks(trainer: Any, pl_module: pl.LightningModule, pending: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the state of each process; every process has to call this.

    ``pending`` has results of this epoch from before an earlier save, which are not yet added to the later ones.
    """
    modules = dict(pl_module.named_modules())
    metrics = {name: module for name, module in modules.items() if isinstance(module, Metric)}
    results = {  # the sums of what `self.log` has collected in this epoch
        key: {name: getattr(result, name) for name in result._defaults}
        for key, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.on_epoch and not result.meta.is_custom_reduction
    }
    state = {
        "metrics": {
            name: metric.metric_state | {"_update_count": metric._update_count} for name, metric in metrics.items()
        },
        "results": pending | results,
        "latest": {name: dict(getattr(trainer._logger_connector, name)) for name in _LATEST},
        # fine-tuning freezes layers by these two
        "trained": {name: parameter.requires_grad for name, parameter in pl_module.named_parameters()},
        "tracking": {
            name: module.track_running_stats
            for name, module in modules.items()
            if hasattr(module, "track_running_stats")
        },
    }
    if trainer.world_size > 1:
        state["scores"] = {}
        for callback in trainer.callbacks:
            found = {name: getattr(callback, name) for name in _SCORES if hasattr(callback, name)}
            lists = {name: [*value.values()] if isinstance(value, dict) else value for name, value in found.items()}
            state["scores"] |= {callback.state_key: lists} if lists else {}
    return ranks.gather(move_data_to_device(state, "cpu"), trainer.world_size)


def restore(trainer: Any, pl_module: pl.LightningModule, state: dict[str, Any]) -> None:
    """Restore everything but ``results``."""
    modules = dict(pl_module.named_modules())
    state = move_data_to_device(state, pl_module.device)
    for name, values in state["metrics"].items():
        for attribute, value in values.items():
            setattr(modules[name], attribute, value)
    for name, values in state["latest"].items():
        getattr(trainer._logger_connector, name).update(values)
    for name, parameter in pl_module.named_parameters():
        parameter.requires_grad = state["trained"][name]
    for callback in trainer.callbacks:
        for name, value in state.get("scores", {}).get(callback.state_key, {}).items():
            if isinstance(value, list):  # the scores of files; all processes know the files' names
                value = dict(zip(callback.best_k_models, value, strict=False))
            setattr(callback, name, value)
    for name, tracking in state["tracking"].items():
        modules[name].track_running_stats = tracking


def add_results(trainer: pl.Trainer, saved: dict[str, dict[str, Any]]) -> None:
    """Add the results of the epoch from before the save to the later ones, and remove them from ``saved``."""
    results = trainer.fit_loop.epoch_loop._results
    for key in [key for key in saved if key in results]:
        result = results[key]
        before = move_data_to_device(saved.pop(key), result.value.device)
        if result.meta.is_mean_reduction or result.meta.is_sum_reduction:
            result.value = before["value"] + result.value
        else:
            result.value = result.meta.reduce_fx(before["value"], result.value)
        if result.meta.is_mean_reduction:
            result.cumulated_batch_size = before["cumulated_batch_size"] + result.cumulated_batch_size


class AttributeState(Callback):
    """Save the attributes that have changed since the start of `fit` in checkpoints, and restore them with the weights.

    Owners are the LightningModule, the user's modules in it, the user's callbacks without a ``state_dict``, and objects
    of the user's classes in any of these. Saved are numbers, texts, tensors, and lists, tuples and dicts of them,
    attributes that are arrays, sets or deques, buffers that are not persistent, and a data module's numbers and texts.
    """

    def __init__(self) -> None:
        self._initial: Attributes = {}
        self._restored: Attributes = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the attributes that `setup` and `configure_optimizers` have set, which are not saved: both run again."""
        self._initial = _attributes(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the changed attributes of each process."""
        now = _attributes(trainer, pl_module, self._initial)
        changed = {owner: values for owner, values in now.items() if values}
        checkpoint["attributes"] = ranks.gather(move_data_to_device(changed, "cpu"), trainer.world_size)

    def on_load_checkpoint(self, trainer: Any, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore them for a test; a training waits for the hooks that begin it."""
        parts = checkpoint.get("attributes") or [{}]
        self._restored = parts[min(trainer.global_rank, len(parts) - 1)]
        if trainer.state.fn != "fit":
            restore_attributes(self._restored, trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them for the module's hooks, name networks that are not saved …"""
        restore_attributes(self._restored, trainer, pl_module)
        saved = {*pl_module.modules()}
        for key, owner in _owners(trainer, pl_module).items():
            for name, part in _parts(owner):
                is_left_out = isinstance(part, nn.Module) and part not in saved and any(True for _ in part.parameters())
                if is_left_out and trainer.is_global_zero and not is_overridden("on_save_checkpoint", pl_module):
                    text = f"note: {name} of {key} is in no checkpoint, so a resumed run begins with a new one."
                    print(f"{text} Save it by on_save_checkpoint.", flush=True)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """… and once more, because such hooks may set them."""
        if self._restored:
            restore_attributes(self._restored, trainer, pl_module)
            self._restored = {}


def _owners(trainer: Any, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Return the user's modules, callbacks and the objects in them, by their names; without a Trainer no callbacks."""
    found: list[tuple[str, Any]] = [(f"module {name}".strip(), module) for name, module in pl_module.named_modules()]
    for callback in trainer.callbacks if trainer is not None else ():
        if type(callback).state_dict is Callback.state_dict:
            found.append((f"callback {callback.state_key}", callback))
    package = type(pl_module).__module__.partition(".")[0]  # whose classes are the user's
    for key, owner in [*found]:
        for name, part in _parts(owner):
            is_own = type(part).__module__.partition(".")[0] == package and hasattr(part, "__dict__")
            if is_own and not isinstance(part, nn.Module | pl.LightningDataModule | Dataset | Enum):
                found.append((f"{type(part).__name__} {name} of {key}", part))
    data = getattr(trainer, "datamodule", None)
    if data is not None and type(data).state_dict is pl.LightningDataModule.state_dict:
        found.append(("data module", data))
    return {name: one for name, one in found if type(one).__module__.partition(".")[0] not in _LIBRARIES}


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an owner; of a list, tuple or dict the first entries."""
    for name, value in vars(owner).items():
        entries = [*value.values()] if isinstance(value, dict) else value
        are_entries = isinstance(entries, list | tuple)
        for number, part in enumerate(entries[:_ENTRIES] if are_entries else [value]):
            yield f"{name}[{number}]" if are_entries else name, part


def _attributes(trainer: Any, pl_module: pl.LightningModule, before: Attributes | None = None) -> Attributes:
    """Return plain copies of the plain attributes of each owner; of those from ``before``, what differs."""
    found: Attributes = {}
    for key, owner in _owners(trainer, pl_module).items():
        found[key] = {}
        known = (before or {}).get(key, {})
        buffers = vars(owner).get("_non_persistent_buffers_set", set())
        for name in (vars(owner).keys() - _OF_LIGHTNING) | buffers:
            value = getattr(owner, name)
            is_of_data = isinstance(owner, pl.LightningDataModule) and not isinstance(value, int | float | str)
            if is_of_data or (name in known and _is_equal(value, known[name])):
                continue
            with suppress(TypeError):
                copied = _encoded(value)
                if name not in known or not _is_same(copied, known[name]):
                    found[key][name] = copied
    return found


def restore_attributes(saved: Attributes, trainer: Any, pl_module: pl.LightningModule) -> None:
    """Set attributes, each in the type that it has now."""
    owners = _owners(trainer, pl_module)
    saved = move_data_to_device(saved, pl_module.device)
    for key in saved.keys() & owners:
        for name, value in saved[key].items():
            current: Any = getattr(owners[key], name, None)
            if _are_alike(value, current):
                current.detach().copy_(value)  # an optimizer may hold this tensor
            else:
                setattr(owners[key], name, _decoded(value, current))


def _encoded(value: Any) -> Any:
    """Return a copy in plain types; raise TypeError if there is none."""
    if isinstance(value, set | frozenset | deque):
        return _plain(list(value))
    return _plain(dict(value) if isinstance(value, dict) else value)


def _decoded(value: Any, current: Any) -> Any:
    value = _with_arrays(value)
    if isinstance(current, set | frozenset):
        return type(current)(value)
    if isinstance(current, deque):
        return deque(value, current.maxlen)
    if isinstance(current, dict):  # perhaps a Counter
        changed = current.copy()
        changed.clear()
        changed.update(value)
        return changed
    return value


def _with_arrays(value: Any) -> Any:
    """Return a plain value with its arrays and numbers of NumPy."""
    if type(value) in (list, tuple):
        return type(value)(map(_with_arrays, value))
    if type(value) is dict and value.keys() == {ARRAY}:
        return value[ARRAY].cpu().numpy()[()]  # a number, if it has no dimension
    if type(value) is dict:
        return {key: _with_arrays(entry) for key, entry in value.items()}
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic):
        return {ARRAY: torch.from_numpy(np.array(value))}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError


def _is_equal(value: Any, other: Any) -> bool:
    """Return whether a value equals a plain one, without copying it: a vocabulary has thousands of entries."""
    with suppress(Exception):  # tensors have no truth value
        return (type(value) is type(other) or isinstance(other, dict)) and bool(value == other)
    return False


def _are_alike(value: Any, other: Any) -> bool:
    are_tensors = isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor)
    return are_tensors and value.shape == other.shape and value.dtype == other.dtype


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two plain values that may hold tensors are equal."""
    if _are_alike(value, other):
        return torch.equal(value.to(other.device), other)
    if isinstance(value, list | tuple) and type(value) is type(other):
        return len(value) == len(other) and all(map(_is_same, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return _is_same([*value.items()], [*other.items()])
    return _is_equal(value, other)
