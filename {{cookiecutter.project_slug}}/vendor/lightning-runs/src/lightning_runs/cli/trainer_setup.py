"""What a run's Trainer gets beside the options that the user gives: folder, loggers, callbacks, plugins."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import callbacks
from pytorch_lightning.plugins.environments import SLURMEnvironment

from ..resume.callback import ExactResume, Start
from ..resume.checkpoint_state import AttributeState
from ..resume.loaders import ExactLoaders
from ..runs import ranks
from ..training import loggers
from ..training.callbacks import AverageCorrection, MonitorCheck, ScheduleLength, Throughput, configured_callbacks

if TYPE_CHECKING:
    from .run_cli import RunCLI


def set_outputs(cli: "RunCLI", options: Any, kept: bool) -> None:
    """Set the folder and the loggers that the Trainer writes to; ``kept`` if the command trains a run."""
    trainer = options.trainer
    if cli.run is not None:
        trainer.default_root_dir = str(cli.run.folder)
    elif cli.ckpt_path is not None:
        trainer.default_root_dir = str(Path(cli.ckpt_path).absolute().parent)
    if not kept:
        trainer.logger = bool(trainer.fast_dev_run)  # Lightning replaces it by one that writes nothing
    elif cli.run is not None:
        trainer.logger = loggers.build(options.logger, cli.run, cli.position.step)


def set_callbacks(cli: "RunCLI", options: Any, fit: bool) -> None:
    """Add the callbacks that every run has, and leave out those that have nothing to do."""
    given = as_list(options.trainer.callbacks)
    idle = (
        # without a logger or a run's folder these would fail, or write beside the runs
        *(() if options.trainer.logger else (callbacks.LearningRateMonitor,)),
        *(() if cli.run else (callbacks.ModelCheckpoint,)),
    )
    chosen = [*configured_callbacks(options, given), *cli.extra_callbacks]
    chosen = [callback for callback in chosen if not isinstance(callback, idle)]
    exact: list[Any] = [ExactLoaders(cli.seed)]
    if fit:
        start = Start(cli.run, cli.options(), cli.seed, cli.position, None, cli.created)
        cli.exact_resume = ExactResume(start, options.save_every_n_steps, options.accept_changes)
        exact = [cli.exact_resume, cli.exact_resume.loaders]  # before others log or count the next batch
    chosen = [AttributeState(), *exact, *chosen, AverageCorrection(), ScheduleLength(), MonitorCheck()]
    if fit and cli.run is not None:
        chosen.append(Throughput(cli.run))
    options.trainer.callbacks = chosen


def set_plugins(trainer: Any) -> None:
    """Add what answers to SLURM."""
    if SLURMEnvironment.detect() and not ranks.by_torchrun():
        # Lightning's own answer to SLURM's signals would save in the middle of a batch
        trainer.plugins = [*as_list(trainer.plugins), SLURMEnvironment(auto_requeue=False)]


def as_list(value: Any) -> list[Any]:
    """Return a value as a list: None is an empty one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
