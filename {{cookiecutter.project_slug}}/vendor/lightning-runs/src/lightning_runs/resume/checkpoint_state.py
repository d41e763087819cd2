"""What a checkpoint holds beside Lightning's own, of each process: metrics under way, and which layers are trained."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities import move_data_to_device
from torchmetrics import Metric

from ..runs import ranks

# The latest values, by which callbacks and schedules choose.
_LATEST = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
# What ModelCheckpoint and EarlyStopping compare with: values of the process itself, where they are not synchronised.
_SCORES = ("best_model_score", "kth_value", "best_k_models", "best_score", "wait_count")


def of_all_ranks(trainer: Any, pl_module: pl.LightningModule, pending: dict[str, Any]) -> list[dict[str, Any]]:
    """The state of each process; every process has to call this.

    Args:
        trainer: The Trainer.
        pl_module: The LightningModule.
        pending: What was logged in this epoch before an earlier save, and is not yet added to what was logged since.
    """
    modules = dict(pl_module.named_modules())
    state = {
        "metrics": {
            name: module.metric_state | {"_update_count": module._update_count}
            for name, module in modules.items()
            if isinstance(module, Metric)
        },
        # sums of what was logged in this epoch
        "results": pending
        | {
            key: {name: getattr(result, name) for name in result._defaults}
            for key, result in trainer.fit_loop.epoch_loop._results.items()
            if result.is_tensor and result.meta.on_epoch and not result.meta.is_custom_reduction
        },
        "latest": {name: dict(getattr(trainer._logger_connector, name)) for name in _LATEST},
        # what fine-tuning has frozen
        "trained": {name: parameter.requires_grad for name, parameter in pl_module.named_parameters()},
        "tracking": {n: m.track_running_stats for n, m in modules.items() if hasattr(m, "track_running_stats")},
    }
    if trainer.world_size > 1:
        state["scores"] = {c.state_key: scores for c in trainer.callbacks if (scores := _scores(c))}
    return ranks.gathered(move_data_to_device(state, "cpu"), trainer.world_size)


def _scores(callback: Any) -> dict[str, Any]:
    found = {name: getattr(callback, name) for name in _SCORES if hasattr(callback, name)}
    return {name: [*value.values()] if isinstance(value, dict) else value for name, value in found.items()}


def restore(trainer: Any, pl_module: pl.LightningModule, state: dict[str, Any]) -> None:
    """Bring everything but ``results`` to what it was."""
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
            if isinstance(value, list):  # of files, whose names all processes have from the first
                value = dict(zip(callback.best_k_models, value, strict=False))
            setattr(callback, name, value)
    for name, tracking in state["tracking"].items():
        modules[name].track_running_stats = tracking


def add_results(trainer: pl.Trainer, saved: dict[str, dict[str, Any]]) -> None:
    """Add what was logged in the epoch before the save to what has been logged since, and forget it."""
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
