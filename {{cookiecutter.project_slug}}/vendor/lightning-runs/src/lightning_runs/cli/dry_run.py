"""A few steps of a training that leave nothing behind, to try something out before a run begins."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pytorch_lightning.callbacks import Callback

from ..errors import DivergedError
from .arguments import ONE_PROCESS
from .run_cli import RunCLI

# Whatever the configuration has: nothing is written, and the training continues until the steps are done.
OPTIONS = (
    *("--trainer.callbacks=[]", "--trainer.enable_checkpointing=false", "--trainer.profiler=null"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.fast_dev_run=false"),
    *("--trainer.max_epochs=-1", "--trainer.min_epochs=null", "--trainer.min_steps=null", "--trainer.max_time=null"),
    *("--trainer.num_sanity_val_steps=0", "--checkpoint.monitor=null", "--early_stopping.monitor=null", *ONE_PROCESS),
)


class DryRun(RunCLI):
    """Train by options of `fit` until limits end it, in one process, without a run and its loggers and callbacks."""

    is_kept = False

    def __init__(
        self, module_class: type, data_class: type | None, args: list[str], limits: Iterable[str], callback: Callback
    ) -> None:
        super().__init__(module_class, data_class, ["fit", *args, *OPTIONS, *limits], callbacks=[callback])

    def fit(self, **kwargs: Any) -> None:
        """Take the steps; a loss that is not finite ends them."""
        with suppress(DivergedError):
            self.trainer.fit(**kwargs)
