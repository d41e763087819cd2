"""The state of each process that checkpoints of Lightning lack: metrics, plain attributes, which layers are trained."""

from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from ..runs import ranks

# The latest values, by which callbacks and schedules choose.
_LATEST = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
# What ModelCheckpoint and EarlyStopping compare with; without sync_dist each process has values of its own.
_LIBRARIES = ("pytorch_lightning", "lightning_fabric", "lightning_runs", "torch")
_OF_LIGHTNING = vars(pl.LightningModule()).keys()
Attributes = dict[str, dict[str, Any]]  # of the module, "", and of each callback by its key
_SCORES = ("best_model_score", "kth_value", "best_k_models", "best_score", "wait_count")


def state_of_all_ranks(
    trainer: Any, pl_module: pl.LightningModule, pending: dict[str, Any], initial: Attributes
) -> list[dict[str, Any]]:
    """Return the state of each process; every process has to call this.

    Args:
        trainer: The Trainer.
        pl_module: The model.
        pending: Results of this epoch from before an earlier save, which are not yet added to the later ones.
        initial: The plain attributes before the training; the state has those that have changed since.
    """
    modules = dict(pl_module.named_modules())
    metrics = {name: module for name, module in modules.items() if isinstance(module, Metric)}
    state = {
        "metrics": {
            name: metric.metric_state | {"_update_count": metric._update_count} for name, metric in metrics.items()
        },
        "results": pending | _epoch_results(trainer),
        "latest": {name: dict(getattr(trainer._logger_connector, name)) for name in _LATEST},
        "attributes": {
            owner: {name: value for name, value in now.items() if not _is_same(value, initial[owner].get(name))}
            for owner, now in attributes(trainer, pl_module).items()
            if owner in initial and not _is_same(now, initial[owner])
        },
        # fine-tuning freezes layers by these two
        "trained": {name: parameter.requires_grad for name, parameter in pl_module.named_parameters()},
        "tracking": {
            name: module.track_running_stats
            for name, module in modules.items()
            if hasattr(module, "track_running_stats")
        },
    }
    if trainer.world_size > 1:
        scores = {callback.state_key: _scores(callback) for callback in trainer.callbacks}
        state["scores"] = {key: values for key, values in scores.items() if values}
    return ranks.gather(move_data_to_device(state, "cpu"), trainer.world_size)


def _owners(trainer: Any, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Return the module, and by their keys the user's callbacks that have no state of their own."""
    own = [one for one in trainer.callbacks if type(one).__module__.partition(".")[0] not in _LIBRARIES]
    return {"": pl_module, **{one.state_key: one for one in own if type(one).state_dict is Callback.state_dict}}


def attributes(trainer: Any, pl_module: pl.LightningModule) -> Attributes:
    """Return copies of the plain attributes of the module and of callbacks: numbers, texts, tensors, lists, dicts."""
    found: Attributes = {}
    for key, owner in _owners(trainer, pl_module).items():
        found[key] = {}
        for name in vars(owner).keys() - _OF_LIGHTNING:
            with suppress(TypeError):
                found[key][name] = _plain(vars(owner)[name])
    return found


def _plain(value: Any) -> Any:
    """Return a copy of a plain value; raise TypeError for any other value."""
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
        return value.shape == other.shape and torch.equal(value, other.to(value.device))
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_is_same, value, other))
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_is_same(value[key], other[key]) for key in value)
    return value == other


def _epoch_results(trainer: Any) -> dict[str, dict[str, Any]]:
    """Return the sums of the values that ``self.log`` has collected in this epoch."""
    return {
        key: {name: getattr(result, name) for name in result._defaults}
        for key, result in trainer.fit_loop.epoch_loop._results.items()
        if result.is_tensor and result.meta.on_epoch and not result.meta.is_custom_reduction
    }


def _scores(callback: Any) -> dict[str, Any]:
    found = {name: getattr(callback, name) for name in _SCORES if hasattr(callback, name)}
    return {name: [*value.values()] if isinstance(value, dict) else value for name, value in found.items()}


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
    owners = _owners(trainer, pl_module)
    for owner in owners.keys() & state["attributes"]:
        for name, value in state["attributes"][owner].items():
            setattr(owners[owner], name, value)
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
