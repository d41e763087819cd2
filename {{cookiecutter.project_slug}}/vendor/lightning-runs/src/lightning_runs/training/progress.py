"""The progress of a training: a line for each epoch, and a bar."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

IN_A_LINE = 6  # metrics of an epoch


class ProgressBar(TQDMProgressBar):
    """A line for each epoch, and below them, in a terminal, Lightning's progress bar.

    Args:
        refresh_rate: Batches between two updates of the bar; drawing it takes longer than a small network's step.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._said: dict[str, float] = {}  # in the line of the last epoch
        self._validated: tuple[int, set[str]] = (-1, set())  # the epoch, and the metrics, of the last validation

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Turn the bar off where the output is no terminal."""
        super().setup(trainer, pl_module, stage)
        if not sys.stderr.isatty():
            self.disable()

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        """Note which metrics are of this epoch's validation."""
        super().on_validation_end(trainer, pl_module)
        results = trainer.fit_loop.epoch_loop.val_loop._results.values()
        self._validated = trainer.current_epoch, {result.meta.name for result in results}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands beside the bar: nothing that the line of the epoch before says."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num" and value != self._said.get(name)}

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Name the epoch as its line does."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}")  # Lightning counts from 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's metrics in a line above the bar."""
        self._said = {}
        self._said = self._of_epoch(trainer, pl_module)  # in each process: to read a metric may gather it from all
        if self.is_enabled:
            super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            results: Any = trainer.fit_loop.epoch_loop._results
            of_steps = {result.meta.name for result in results.values() if not result.meta.on_epoch}
            last = {name: " (last batch)" for name in self._said if name in of_steps}
            values = "  ".join(f"{name} {value:.4f}{last.get(name, '')}" for name, value in self._said.items())
            self.print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}".rstrip())

    def _of_epoch(self, trainer: Any, pl_module: pl.LightningModule) -> dict[str, float]:
        """The metrics of the bar, or where there are none the first ones that are logged; and the monitored one."""
        logged: dict[str, Any] = trainer.callback_metrics
        shown = {name: v for name, v in self.get_metrics(trainer, pl_module).items() if isinstance(v, float)}
        others = [name for name in logged if not name.endswith("_step") and not name.startswith("lr-")]
        names = [] if shown else others[:IN_A_LINE]
        names.append(getattr(trainer.checkpoint_callback, "monitor", None) or "")
        shown |= {name: float(logged[name]) for name in names if name in logged and name not in shown}
        epoch, measured = self._validated
        return {name: shown[name] for name in shown if epoch == trainer.current_epoch or name not in measured}

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar, if there is one."""
        if self.is_enabled:
            super().print(*args, **kwargs)
        else:
            print(*args, **kwargs, flush=True)
