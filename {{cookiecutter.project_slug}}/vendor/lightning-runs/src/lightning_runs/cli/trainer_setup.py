"""What a run's Trainer is made of, beside the options that the user gives: folder, loggers, callbacks, plugins."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    SpikeDetection,
)
from pytorch_lightning.plugins.environments import SLURMEnvironment

from .. import files
from ..errors import UserError
from ..resume import checkpoint_files
from ..resume.callback import ExactResume
from ..resume.loaders import ExactLoaders
from ..runs import ranks
from ..runs.options import config_text
from ..training import loggers
from ..training.callbacks import AverageCorrection, MonitorCheck, ScheduleLength, Throughput, configured_callbacks

if TYPE_CHECKING:
    from .run_cli import RunCLI


def outputs(cli: RunCLI, trainer: Any, options: Any, new: bool) -> None:
    """Choose the folder and the loggers that the Trainer writes to; ``new`` if the command trains and keeps it."""
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


def refuse_callbacks(trainer: Any) -> None:
    """Refuse callbacks by which no run could be resumed."""
    if any(isinstance(callback, ModelPruning) for callback in listed(trainer.callbacks)):
        raise UserError(
            "ModelPruning writes pruned weights into checkpoints and leaves out what is pruned, so that a run could not"
            " be resumed. Train without it, and prune the trained model with torch.nn.utils.prune."
        )
    if any(isinstance(callback, LearningRateFinder) for callback in listed(trainer.callbacks)):
        raise UserError(
            "LearningRateFinder changes the rate after config.yaml is written, so that the run could not be repeated."
            " Train without it, with the rate that the command lr_find suggests."
        )


def callbacks(cli: RunCLI, trainer: Any, options: Any, fit: bool) -> None:
    """Add the callbacks that every run has, leave out those that have nothing to do, and set what a resume needs."""
    run = cli.run
    chosen = [*configured_callbacks(options, listed(trainer.callbacks)), *cli.extra_callbacks]
    idle = (
        # without a logger or a run's folder these would fail, or write beside the runs
        *(() if trainer.logger else (LearningRateMonitor,)),
        *(() if run else (ModelCheckpoint,)),
        *(() if fit and run and cli.ckpt_path is None else (BatchSizeFinder,)),  # config.yaml has what it found
    )
    chosen = [callback for callback in chosen if not isinstance(callback, idle)]
    finders = [callback for callback in chosen if isinstance(callback, BatchSizeFinder)]
    chosen += [LambdaCallback(on_fit_start=partial(_keep_batch_size, cli, finder)) for finder in finders]
    loaders = ExactLoaders(cli.seed, (cli.position.epoch, cli.position.batch), run if fit else None)
    chosen = [loaders, *chosen, AverageCorrection(), ScheduleLength(), MonitorCheck()]
    if fit:
        every_n_steps, accept = options.save_every_n_steps, options.accept_changes
        cli.exact_resume = ExactResume(run, every_n_steps, cli.options(), cli.created, accept)
        chosen.insert(0, cli.exact_resume)  # before others log or count the batch that is to come
    if fit and run is not None:
        chosen.append(Throughput(run))
    for callback in chosen:
        if isinstance(callback, ModelCheckpoint) and run is not None:
            if callback.dirpath is None:
                callback.dirpath, callback.save_last = str(run.checkpoints), False  # `last.ckpt` there is the resume's
            # a resumed run writes over what it had written after its last save, and leaves no second version
            callback._enable_version_counter = False
        if isinstance(callback, SpikeDetection):
            callback.state_dict = lambda: {}  # Lightning fails to load it: a resumed run averages the loss anew
    trainer.callbacks = chosen


def _keep_batch_size(cli: RunCLI, finder: BatchSizeFinder, trainer: Any, module: Any) -> None:
    """Write the batch size that was found to config.yaml, so that a resumed run need not search, nor a test."""
    assert cli.run is not None
    for options in (cli.options().get(group) or {} for group in ("data", "model")):
        if finder._batch_arg_name in options:
            options[finder._batch_arg_name] = finder.optimal_batch_size
    files.write_whole(cli.run.config_file, config_text(cli.options()))
    trainer.callbacks = [callback for callback in trainer.callbacks if callback is not finder]
    trainer.strategy.setup_optimizers(trainer)  # schedules count the steps, and there are others now


def plugins(trainer: Any, fit: bool) -> None:
    """Add what writes checkpoint files, and what answers to SLURM."""
    if fit:
        trainer.plugins = [*listed(trainer.plugins), checkpoint_files.AtomicCheckpointIO()]
    if SLURMEnvironment.detect() and not ranks.by_torchrun():
        # Lightning's own answer to SLURM's signals would save in the middle of a batch
        trainer.plugins = [*listed(trainer.plugins), SLURMEnvironment(auto_requeue=False)]


def listed(value: Any) -> list[Any]:
    """A value as a list: None is an empty one."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
