"""A few steps of a training that nothing is kept of, for what is tried out before a run begins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pytorch_lightning.callbacks import Callback

from ..errors import DivergedError
from .arguments import ONE_PROCESS
from .run_cli import RunCLI

# Whatever the configuration has: nothing is written, and the training goes on until the steps are done.
_OFF = ("callbacks=[]", "enable_checkpointing=false", "enable_progress_bar=false", "enable_model_summary=false")
_NO_END = ("max_epochs=-1", "min_epochs=null", "min_steps=null", "max_time=null", "num_sanity_val_steps=0")
_OPTIONS = [f"--trainer.{option}" for option in (*_OFF, *_NO_END, "profiler=null", "fast_dev_run=false")]
_OPTIONS += ["--checkpoint.monitor=null", "--early_stopping.monitor=null", *ONE_PROCESS]


class Rehearsal(RunCLI):
    """Train in one process, without a run's folder, loggers and callbacks of the configuration.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule, or None.
        args: Options of `fit`.
        callback: What looks at the steps.
        limits: Options that end the training.
    """

    is_kept = False

    def __init__(
        self, module_class: type, data_class: type | None, args: list[str], callback: Callback, *limits: str
    ) -> None:
        super().__init__(module_class, data_class, ["fit", *args, *_OPTIONS, *limits], callbacks=[callback])

    def fit(self, **kwargs: Any) -> None:
        """Take the steps; a loss that is not finite ends them."""
        with suppress(DivergedError):
            self.trainer.fit(**kwargs)
