"""``lr_find``: suggest a learning rate, by a short training in which it grows from step to step.

Suggested is the rate at which the mean loss has fallen half of the way from its first value to its lowest. There it
falls about fastest (https://arxiv.org/abs/1506.01186), and noise counts less than in the slope of Lightning's Tuner.
"""

import math
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from statistics import fmean, stdev
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ..cli.arguments import ONE_PROCESS, option_values
from ..cli.run_cli import RunCLI
from ..errors import DivergedError, UserError
from ..names import program
from ..resume import signals
from ..runs.options import flat
from . import COMMANDS

STEPS = 160  # 20 for each power of ten
LOWEST = 1e-7
HIGHEST = 10.0
NEIGHBOURS = 5  # steps before and after one, over which its loss is averaged
OPTIONS = (
    *(f"--trainer.max_steps={STEPS}", "--trainer.max_epochs=-1", "--trainer.max_time=null"),
    *("--trainer.min_epochs=null", "--trainer.min_steps=null", "--trainer.limit_val_batches=0"),
    *("--trainer.callbacks=[]", "--trainer.enable_checkpointing=false", "--trainer.profiler=null"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.fast_dev_run=false", "--checkpoint.monitor=null", "--early_stopping.monitor=null", *ONE_PROCESS),
)


class DryRun(RunCLI):
    """Train by options of `fit` in one process, without a run and its loggers and callbacks."""

    is_kept = False

    def fit(self, **kwargs: Any) -> None:
        """Take the steps; a loss that is not finite ends them."""
        with suppress(DivergedError):
            self.trainer.fit(**kwargs)


class RangeTest(Callback):
    """Let the rate grow with each step, and keep the losses by their rates."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, float]] = []  # rate and loss of each batch
        self.rate = 0.0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Check that there is one learning rate to try."""
        name = type(pl_module).__name__
        if not pl_module.automatic_optimization or len(trainer.optimizers) != 1:
            raise UserError(f"lr_find needs one optimizer that Lightning steps; {name} has others. Use sweep.")
        trainer.strategy.lr_scheduler_configs = []  # a warm-up would change the rate too

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rate = LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and math.isfinite(loss.item()):  # there is none if the batch was skipped
            self.losses.append((self.rate, loss.item()))
            means = [mean for _, mean in smoothed(self.losses)]
            # larger rates are useless once the loss has grown by as much as it had fallen
            has_grown = means[-1] > means[0] + max(means[0] - min(means), abs(means[0]) / 2)
            trainer.should_stop = has_grown and len(means) > 4 * NEIGHBOURS  # the first means are of few losses


def smoothed(losses: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the rate of each batch, and the mean loss of the batch and its neighbours."""
    near = [losses[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1] for i in range(len(losses))]
    return [(rate, fmean(loss for _, loss in some)) for (rate, _), some in zip(losses, near, strict=True)]


def suggestion(losses: Sequence[tuple[float, float]]) -> float:
    """Return the rate at which the mean loss has fallen half of the way."""
    first = [loss for _, loss in losses[: 2 * NEIGHBOURS]]
    means = smoothed(losses)
    if len(first) > 1:
        highest = means[0][1]
        lowest = min(mean for _, mean in means)
        if highest - lowest > stdev(first):
            return next(rate for rate, mean in means if mean <= (highest + lowest) / 2)
    hint = "Can the network overfit one batch (fit -c configs/overfit.yaml)? Are the batches large enough?"
    raise UserError(f"no learning rate from {LOWEST:g} to {HIGHEST:g} made the loss fall. {hint}")


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Find a learning rate, and print it and the command that uses it."""
    if {"-h", "--help"} & set(args):
        print(f"usage: {program()} lr_find [options of fit]\n\n{COMMANDS['lr_find'].text}")
        return 0
    for option in ("--run", "--resume", "--ckpt_path"):
        if option_values(args, option):
            raise UserError(f"{option} is not an option of lr_find, which tries a few steps of a new model.")
    test = RangeTest()
    with signals.handled():
        cli = DryRun(module_class, data_class, ["fit", *args, *OPTIONS], callbacks=[test])
    rate = suggestion(test.losses)
    print(f"Suggested learning rate: {rate:.2g}")
    names = [name for name in flat(cli.options()) if re.fullmatch(r"model\.(.+\.)?(lr|learning_rate)", name)]
    if len(names) == 1:
        print(f"Next: {program()} {shlex.join(['fit', *args, f'--{names[0]}={rate:.2g}'])}")
    return 0
