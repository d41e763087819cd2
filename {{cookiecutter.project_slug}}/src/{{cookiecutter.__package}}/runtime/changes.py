"""What may change when a run is resumed: some of its options, and not its data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from . import contract, loggers
from .checkpoints import flat
from .errors import UserError
from .randomness import generators, seed_streams
from .runs import Run

# Anything else would make it another run.
LIMITS = {f"trainer.{limit}" for limit in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time")}
# … and what changes nothing in the result.
CHANGEABLE = {*LIMITS, "save_every_n_steps", "data.num_workers", "speed.short_loop", "speed.keep_freed_memory"}
_ITEMS = 16  # that a fingerprint is made of


def options_of(run: Run, checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that a run was trained with, by their dotted names, whatever its ``config.yaml`` says now.

    Raises:
        UserError: The run was made by an earlier layout of the project.
    """
    config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or "speed" not in config:
        commit = (run.record.get("git") or {}).get("commit") or "COMMIT"
        raise UserError(
            f"the run {run.name} was made before the project's code moved to runtime/. Use it with the code that it was"
            f" trained with: git worktree add ../before {commit}"
        )
    saved = (checkpoint or {}).get("callbacks", {}).get("ExactResume", {}).get("options")
    return json.loads(saved) if saved else flat(config)


def repeated(args: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options ``--list+=item`` whose item is in the run's own list: the command that began it was repeated."""
    appended = {argument: match[1] for argument in args if (match := re.match(r"--([\w.]+)\+=", argument))}
    return [
        argument
        for argument, name in appended.items()
        if before.get(name) and all(item in before[name] for item in now[name])
    ]


def refuse(run: Run, before: Mapping[str, Any], now: Mapping[str, Any], accept: bool) -> None:
    """Refuse changed options or data, or record them where they were accepted.

    Raises:
        UserError: Something has changed that may not.
    """
    names = {*before, *now} - CHANGEABLE
    changed = sorted(name for name in names if before.get(name) != now.get(name))
    if changed and not accept:
        differences = ", ".join(f"{name} is {now.get(name)} and was {before.get(name)}" for name in changed)
        raise UserError(
            f"a resumed run keeps its options and its data, but {differences}. Only {', '.join(sorted(LIMITS))} may"
            " change; start a new run for the rest, or take the change into this one with --accept_changes true."
        )
    lines = [f"{name}: {before.get(name)} -> {now.get(name)}" for name in changed]
    run.record["accepted_changes"] = [*run.record.get("accepted_changes", []), *lines]


class SameData(Callback):
    """Record the version of the data, and refuse to go on with other data than the run was begun with.

    Args:
        run: The run.
        options: All options, which the loggers of a new run are given with the version.
        accept: Go on all the same.
        new: Whether the run is a new one.
    """

    def __init__(self, run: Run, options: Mapping[str, Any], accept: bool, new: bool) -> None:
        self.run = run
        self.options = options
        self.accept = accept
        self.new = new
        self.version: str | None = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.version is None else {"fingerprint": self.version}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.version = None if self.new else state_dict["fingerprint"]

    def on_fit_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        self._tell = contract.get("fingerprint", trainer.datamodule, pl_module)
        if self._tell is not None:
            self._compare(trainer, self._tell)

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        if self._tell is None:  # now there are loaders
            self._compare(trainer, lambda: fingerprint(trainer.fit_loop._combined_loader.flattened))

    def _compare(self, trainer: Any, tell: Callable[[], Any]) -> None:
        version = tell() if trainer.is_global_zero else None
        version = trainer.strategy.broadcast(None if version is None else str(version))
        if self.version and version:
            name = "the fingerprint of the data"
            refuse(self.run, {name: self.version}, {name: version}, self.accept)
        self.version = version
        if trainer.is_global_zero:
            self.run.update(fingerprint=version)
            if self.new:
                loggers.log_options(trainer.loggers, flat(self.options) | {"fingerprint": version})


def fingerprint(loaders: list[Any]) -> str | None:
    """The number of items in the data sets of loaders, and a hash of some; None where these can't be read by number.

    They are read with the same random numbers each time, for they may be augmented.
    """
    total, digest = 0, hashlib.blake2b(digest_size=8)
    with isolate_rng():
        for loader in loaders:
            dataset = getattr(loader, "dataset", None)
            if not isinstance(loader, DataLoader) or isinstance(dataset, IterableDataset):
                return None
            try:
                count, held = len(dataset), generators(dataset)
                for number in range(min(_ITEMS, count)):
                    seed_streams(number, held)  # those held are seeded again before each batch
                    digest.update(_content(dataset[number * count // min(_ITEMS, count)]))
            except Exception:  # whatever a data set raises that is not indexed by numbers, or an item that is unknown
                return None
            total += count
    return f"{total} items, {digest.hexdigest()}"


def _content(value: Any) -> bytes:
    """The bytes of an item; a TypeError if it is none of tensors, numbers and texts."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return value.tobytes()
    if isinstance(value, dict | list | tuple):
        return b",".join(_content(part) for part in (value.items() if isinstance(value, dict) else value))
    if value is None or isinstance(value, int | float | str | bytes):
        return repr(value).encode()
    raise TypeError(type(value).__name__)
