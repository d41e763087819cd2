"""``lr_find``: suggest a learning rate, by a short training in which it grows from step to step.

Suggested is the rate at which the mean loss has fallen half of the way from its first value to its lowest. There it
falls about fastest (https://arxiv.org/abs/1506.01186), and the noise of the batches counts less than in a slope.
Lightning's Tuner is not used. Its average over some 50 batches shows a fall long after the rate that made it, its slope
is over the rate and not its logarithm, so that noise at the smallest rates counts most, and it gives all groups of
parameters one rate.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ..cli.dry_run import Rehearsal
from ..errors import UserError
from ..files import relative_path, write_whole
from ..names import program
from ..reports import charts
from ..resume import signals
from ..runs.options import flat
from . import COMMANDS

STEPS, LOW, HIGH = 160, 1e-7, 10.0  # 20 steps for each power of ten
AROUND = 5  # steps before and after one, over which its loss is averaged
PAGE = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>lr_find</title><style>'
    ".s0{stroke:#0072b2}.m0{fill:#0072b2}.s1{stroke:#d55e00}.m1{fill:#d55e00}.s2{stroke:#009e73}.m2{fill:#009e73}"
    ".line,.axis{fill:none}.axis,.grid{stroke:#999}.line{stroke-width:2}"
    "body{max-width:60em;margin:auto}svg{font:14px system-ui;width:100%}</style>"
)


class RangeTest(Callback):
    """Let the rate grow with each step, and note the losses by their rates.

    Raises:
        UserError: There is no single optimizer with a rate, or the LightningModule sets the rate itself.
    """

    def __init__(self) -> None:
        self.losses: dict[float, list[float]] = {}  # of all batches that a step accumulates
        self.base: list[float] = []  # the configured rate of each group of parameters, whose ratios are kept

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check that there is one learning rate to try."""
        name, optimizers = type(pl_module).__name__, trainer.optimizers
        if not pl_module.automatic_optimization or len(optimizers) != 1:
            raise UserError(
                f"lr_find tries the rate of one optimizer that Lightning steps; {name} has others. Use sweep."
            )
        trainer.strategy.lr_scheduler_configs = []  # a warm-up would change the rate too
        self.base = [float(group.get("initial_lr", group.get("lr", 0))) for group in optimizers[0].param_groups]
        if max(self.base) <= 0:
            raise UserError(f"the optimizer of {name} has no learning rate above 0, so there is none to find.")

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the rate of this step."""
        self.rate = LOW * (HIGH / LOW) ** (trainer.global_step / (STEPS - 1))
        for group, base in zip(trainer.optimizers[0].param_groups, self.base, strict=True):
            group["lr"] = self.rate * (base / max(self.base))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss at this rate."""
        if max(group["lr"] for group in trainer.optimizers[0].param_groups) != self.rate:
            raise UserError(
                f"{type(pl_module).__name__} sets the learning rate in each step, so lr_find can't try any."
            )
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and math.isfinite(loss.item()):  # there is none where the batch was skipped
            self.losses.setdefault(self.rate, []).append(loss.item())
            means = smoothed(self.losses)
            # a larger rate is of no use where the loss has grown by as much as it had fallen
            trainer.should_stop = means[-1] > means[0] + max(means[0] - min(means), abs(means[0]) / 2)


def smoothed(losses: dict[float, list[float]]) -> list[float]:
    """The mean of each step's loss and of those around it."""
    each = [fmean(of_step) for of_step in losses.values()]
    return [fmean(each[max(0, i - AROUND) : i + AROUND + 1]) for i in range(len(each))]


def suggestion(losses: dict[float, list[float]]) -> float:
    """The rate at which the mean loss has fallen half of the way.

    Raises:
        UserError: The loss does not fall by more than the first batches differ.
    """
    means = smoothed(losses)
    first = [loss for of_step in [*losses.values()][: 2 * AROUND] for loss in of_step]
    if len(first) < 2 or means[0] - min(means) <= stdev(first):
        raise UserError(
            f"the loss falls at no rate from {LOW:g} to {max(losses, default=HIGH):.2g}. Does the network learn one"
            " batch by heart (fit -c configs/overfit.yaml)? Are the batches large enough?"
        )
    half = (means[0] + min(means)) / 2
    return next(rate for rate, loss in zip(losses, means, strict=True) if loss <= half)


def write_chart(folder: Path, losses: dict[float, list[float]], rate: float) -> Path:
    """Write a page with the losses and the suggested rate, under a name that is free."""
    means, powers = smoothed(losses), [math.log10(of) for of in losses]
    lines = [
        charts.Line("loss of a step", powers, [fmean(of_step) for of_step in losses.values()], 2),
        charts.Line(f"mean of {2 * AROUND + 1} steps", powers, means, 0),
        charts.Line(f"suggested: {rate:.2g}", [math.log10(rate)] * 2, [min(means), means[0]], 1),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    file = next(f for i in range(1, 10**6) if not (f := folder / f"lr_find_{i}.html").exists())
    write_whole(file, PAGE + charts.line_chart("Loss", lines, "learning rate, as a power of ten"))
    return file


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Find a learning rate, write a chart, and print the command that uses the rate.

    Raises:
        UserError: There is no rate to be found, or an option names a run.
    """
    if {"-h", "--help"} & set(args):
        print(f"usage: {program()} lr_find [options of fit]\n\n{COMMANDS['lr_find']} A chart of it is in runs/.")
        return 0
    if of_a_run := {argument.split("=")[0] for argument in args} & {"--run", "--resume", "--ckpt_path"}:
        raise UserError(
            f"{min(of_a_run)} is no option of lr_find, which tries a few steps of a new model and keeps no run."
        )
    test = RangeTest()
    with signals.handled():
        cli = Rehearsal(
            module_class, data_class, args, test, f"--trainer.max_steps={STEPS}", "--trainer.limit_val_batches=0"
        )
    rate = suggestion(test.losses)
    file = write_chart(Path(cli.config.fit.trainer.default_root_dir or "runs"), test.losses, rate)
    options = {
        name: of for name, of in flat(cli.options()).items() if re.fullmatch(r"model\.(.+\.)?(lr|learning_rate)", name)
    }
    print(f"Suggested learning rate: {rate:.2g}, of {len(test.losses)} from {LOW:g} to {max(test.losses):.2g}.")
    print(f"Chart: {relative_path(file.absolute())}")
    if [type(configured) for configured in options.values()] in ([float], [int]):
        ((name, configured),) = options.items()
        option = f"--{name}={rate * configured / max(test.base):.2g}"  # which the module may multiply
        print(f"Next: {program()} {shlex.join(['fit', *args, option])}")
    else:
        print(f"Next: give it to the optimizer in {module_class.__name__}.configure_optimizers.")
    return 0
