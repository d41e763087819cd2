"""The progress of a training: a line for each epoch, and a bar."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

MAX_METRICS = 6  # in the line of an epoch


class ProgressBar(TQDMProgressBar):
    """A line for each epoch, and below them, in a terminal, Lightning's progress bar.

    Args:
        refresh_rate: Batches between two updates of the bar; drawing it takes longer than a small network's step.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._validated_epoch = -1
        self._validation_metrics: set[str] = set()  # of that epoch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Turn the bar off if the output is not a terminal."""
        super().setup(trainer, pl_module, stage)
        if not sys.stderr.isatty():
            self.disable()

    def on_validation_end(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        results = trainer.fit_loop.epoch_loop.val_loop._results.values()
        self._validated_epoch = trainer.current_epoch
        self._validation_metrics = {result.meta.name for result in results}

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = self._epoch_metrics(trainer, pl_module)  # in each process: reading one may gather it from all
        if self.is_enabled:
            super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_global_zero:
            results: Any = trainer.fit_loop.epoch_loop._results
            step_metrics = {result.meta.name for result in results.values() if not result.meta.on_epoch}
            notes = {name: " (last batch)" for name in step_metrics}
            values = "  ".join(f"{name} {value:.4f}{notes.get(name, '')}" for name, value in metrics.items())
            last = (trainer.max_epochs or 0) - 1  # as Lightning and the names of checkpoints, which count from 0
            total = f"/{last}" if last >= 0 else ""
            text = f"epoch {trainer.current_epoch}{total}  {values}".rstrip()
            if self.is_enabled:
                self.print(text)  # above the bar
            else:
                print(text, flush=True)

    def _epoch_metrics(self, trainer: Any, pl_module: pl.LightningModule) -> dict[str, float]:
        """Return the metrics of the bar, or without any the first logged ones, and the monitored metric."""
        logged: dict[str, Any] = trainer.callback_metrics
        bar = self.get_metrics(trainer, pl_module)
        metrics = {name: value for name, value in bar.items() if isinstance(value, float)}
        names = []
        if not metrics:
            names = [name for name in logged if not name.endswith("_step") and not name.startswith("lr-")]
        names = [*names[:MAX_METRICS], getattr(trainer.checkpoint_callback, "monitor", None)]
        metrics |= {name: float(logged[name]) for name in names if name in logged and name not in metrics}
        results: Any = trainer.fit_loop.epoch_loop._results
        earlier = {result.meta.name for result in results.values() if result.has_reset}  # not logged in this epoch
        if self._validated_epoch != trainer.current_epoch:
            earlier |= self._validation_metrics
        return {name: value for name, value in metrics.items() if name not in earlier}
