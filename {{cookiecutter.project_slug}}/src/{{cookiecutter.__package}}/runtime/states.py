"""What a checkpoint holds beside Lightning's own: metrics under way, of every rank, and paths without a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor
from torchmetrics import Metric


def time_is_up(trainer: Any) -> bool:
    """Whether ``max_time`` ended the training, which a resumed run may raise."""
    return any(isinstance(timer, Timer) and (timer.time_remaining() or 1) <= 0 for timer in trainer.callbacks)


def without_folder(value: Any, folder: Path) -> Any:
    """Nested values without the folder before the names of files, and with its name in its own place."""
    if isinstance(value, str):
        return folder.name if value == str(folder) else value.removeprefix(f"{folder}{os.sep}")
    if isinstance(value, dict):
        return {without_folder(key, folder): without_folder(item, folder) for key, item in value.items()}
    return [without_folder(item, folder) for item in value] if isinstance(value, list) else value


def with_folder(state: dict[str, Any], folder: Path) -> None:
    """Bring the paths in the state of a ModelCheckpoint to where the checkpoints are now."""

    def now(path: str) -> str:
        return str(folder / re.split(r"[\\/]", path)[-1]) if path else path

    if Path(state["dirpath"]).name not in ("", folder.name):
        return  # a folder of its own that the user has chosen
    state["dirpath"] = str(folder)
    for name in ("best_model_path", "last_model_path", "kth_best_model_path"):
        state[name] = now(state[name])
    state["best_k_models"] = {now(path): score for path, score in state["best_k_models"].items()}


def metric_states(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    """Of this process: metrics that are under way, sums of what was logged in this epoch, and the latest values."""
    connector = trainer._logger_connector
    results = trainer.fit_loop.epoch_loop._results
    return {
        "modules": {
            name: {attribute: moved(getattr(module, attribute)) for attribute in (*module._defaults, "_update_count")}
            for name, module in pl_module.named_modules()
            if isinstance(module, Metric)
        },
        "results": {
            key: {name: moved(getattr(result, name)) for name in result._defaults}
            for key, result in results.items()
            if result.is_tensor and result.meta.on_epoch and not result.meta.is_custom_reduction
        },
        "callback_metrics": moved(dict(connector._callback_metrics)),
        "logged_metrics": moved(dict(connector._logged_metrics)),
        "progress_bar_metrics": moved(dict(connector._progress_bar_metrics)),
    }


def moved(value: Any, device: torch.device | str = "cpu") -> Any:
    """Copy tensors in dicts and lists to a device."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    return [moved(item, device) for item in value] if isinstance(value, list) else value


def of_all_ranks(trainer: pl.Trainer, state: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [state]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states
