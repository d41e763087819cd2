"""The state of each process that checkpoints of Lightning lack: metrics under way, and which layers are trained."""

from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities import move_data_to_device
from torchmetrics import Metric

from ..runs import ranks

# The latest values, by which callbacks and schedules choose.
_LATEST = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
# What ModelCheckpoint and EarlyStopping compare with; without sync_dist each process has values of its own.
_SCORES = ("best_model_score", "kth_value", "best_k_models", "best_score", "wait_count")


def state_of_all_ranks(trainer: Any, pl_module: pl.LightningModule, pending: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the state of each process; every process has to call this.

    ``pending`` has results of this epoch from before an earlier save, which are not yet added to the later ones.
    """
    modules = dict(pl_module.named_modules())
    metrics = {name: module for name, module in modules.items() if isinstance(module, Metric)}
    state = {
        "metrics": {
            name: metric.metric_state | {"_update_count": metric._update_count} for name, metric in metrics.items()
        },
        "results": pending | _epoch_results(trainer),
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
        scores = {callback.state_key: _scores(callback) for callback in trainer.callbacks}
        state["scores"] = {key: values for key, values in scores.items() if values}
    return ranks.gather(move_data_to_device(state, "cpu"), trainer.world_size)


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
