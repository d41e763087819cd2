"""What a run's Trainer is made of, beside the options that the user gives: folder, loggers, callbacks, plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.plugins.environments import SLURMEnvironment

from . import checkpoints, hardware, loggers
from .callbacks import CheckCallbacks, Throughput
from .checkpoints import flat
from .loaders import ExactLoaders
from .resume import ExactResume

if TYPE_CHECKING:
    from .cli import RunCLI


def outputs(cli: RunCLI, trainer: Any, options: Any, new: bool) -> None:
    """Choose the folder and the loggers that the Trainer writes to.

    Args:
        cli: The command line.
        trainer: Options of the Trainer, which are changed.
        options: All options.
        new: Whether the command trains and keeps what it does.
    """
    if cli.run is not None:
        trainer.default_root_dir = str(cli.run.folder)
    elif cli.ckpt_path is not None:
        trainer.default_root_dir = str(Path(cli.ckpt_path).absolute().parent)
    if trainer.fast_dev_run:
        trainer.profiler = None  # it would write a report
    if trainer.profiler is not None and getattr(trainer.profiler, "dirpath", "") is None:
        trainer.profiler.dirpath = trainer.default_root_dir
    if not new:
        trainer.logger = False
    elif cli.config[str(cli.subcommand)].trainer.logger is None and cli.run is not None:
        trainer.logger = loggers.build(options.logger, options.logger_options, cli.run, cli.position.step)


def callbacks(cli: RunCLI, trainer: Any, options: Any, fit: bool) -> None:
    """Add the callbacks that every run has, and leave out those that have nothing to do."""
    chosen = [*listed(trainer.callbacks), *cli.extra_callbacks]
    # without a logger or a run's folder these would fail, or write beside the runs
    idle = (*(() if trainer.logger else (LearningRateMonitor,)), *(() if cli.run else (ModelCheckpoint,)))
    chosen = [callback for callback in chosen if not isinstance(callback, idle)]
    start = (cli.position.epoch, cli.position.batch)
    cli.exact_loaders = ExactLoaders(cli.seed, start, cli.run if fit else None)
    chosen = [cli.exact_loaders, *chosen, CheckCallbacks()]
    if fit:
        folder = cli.run.checkpoints if cli.run else None
        cli.exact_resume = ExactResume(folder, options.save_every_n_steps, json.dumps(flat(cli.options())))
        chosen.insert(0, cli.exact_resume)  # before others log or count the batch that is to come
    if fit and cli.run is not None:
        chosen.append(Throughput(cli.run))
        if trainer.enable_checkpointing is not False and not any(isinstance(c, ModelCheckpoint) for c in chosen):
            chosen.append(ModelCheckpoint(filename="epoch={epoch:03d}-step={step}", auto_insert_metric_name=False))
    for callback in chosen:
        if isinstance(callback, ModelCheckpoint) and cli.run is not None:
            callback.dirpath = callback.dirpath or str(cli.run.checkpoints)
            # a resumed run writes over what it had written after its last save, and leaves no second version
            callback._enable_version_counter = False
    trainer.callbacks = chosen


def plugins(trainer: Any, fit: bool) -> None:
    """Add what writes checkpoint files, and what answers to SLURM."""
    if fit:
        trainer.plugins = [*listed(trainer.plugins), checkpoints.WholeFiles()]
    if SLURMEnvironment.detect() and not hardware.by_torchrun():
        # Lightning's own answer to SLURM's signals would save in the middle of a batch
        trainer.plugins = [*listed(trainer.plugins), SLURMEnvironment(auto_requeue=False)]


def listed(value: Any) -> list[Any]:
    """A value as a list: None is an empty one."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
