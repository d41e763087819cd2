"""LightningCLI with run folders: `train.py` says what is trained; this says where it goes and how it is found again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins.environments import SLURMEnvironment

from . import checkpoints, hardware, loggers, runs, signals, speed
from .callbacks import CheckMonitors, SeedSteps, Throughput
from .checkpoints import flat
from .errors import DivergedError, UserError, message
from .parser import Parser
from .resume import ExactResume

DEFAULT_CONFIG = Path("configs/default.yaml")
# What a resumed run may change; anything else would make it another run.
LIMITS = {f"trainer.{limit}" for limit in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time")}
# … and what changes nothing in the result: a run that its data ended can go on without mending them.
CHANGEABLE = {*LIMITS, "save_every_n_steps", "data.num_workers", "data.skip_corrupt", "data.cache_images"}
# Options of one call, which are no part of a run's configuration.
CALL_OPTIONS = ("config", "run", "resume", "ckpt_path", "weights_only", "verbose", "return_predictions")


class RunCLI(LightningCLI):
    """Lightning's command line with a folder for each run, loggers by name, and evaluation of a run's best checkpoint.

    Attributes:
        run: The run that is trained or evaluated; None for a checkpoint that belongs to none, and under fast_dev_run.
        ckpt_path: The checkpoint to go on with or to evaluate.
        created: Whether the run is a new one.
    """

    run: runs.Run | None
    created: bool
    ckpt_path: str | Path | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        defaults = {"default_config_files": [str(DEFAULT_CONFIG)]}
        super().__init__(
            *args,
            **kwargs,
            parser_class=Parser,
            parser_kwargs={"prog": f"python -m {__package__}", **{name: dict(defaults) for name in self.subcommands()}},
            save_config_callback=None,  # the folder is given its config.yaml when it is made
            auto_configure_optimizers=False,
            seed_everything_default=0,
        )

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add the options of runs and loggers."""
        parser.add_argument("--logger", type=loggers.LoggerName, default="csv", help="Logger; csv is on beside it.")
        parser.add_class_arguments(loggers.LoggerOptions, "logger_options")
        parser.add_argument(
            "--save_every_n_steps",
            type=int,
            default=200,
            help="Optimizer steps between two saves of all that a killed run needs to go on.",
        )
        parser.add_argument("--run", type=str, help="Name of the new run (fit), or of the run to evaluate.")
        parser.add_argument(
            "--resume",
            nargs="?",
            const="",
            type=str,
            help="Go on with this run, the newest unfinished one, or --run NAME if begun (fit).",
        )

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        """Parse the options; where they name a run, on top of that run's own configuration."""
        named = any(argument.startswith(("-c", "--config", "-h", "--help")) for argument in args)
        if not named and not DEFAULT_CONFIG.is_file():  # which the parser would pass over without a word
            raise UserError(
                f"{DEFAULT_CONFIG} is not in {Path.cwd()}. Run this in the project's folder, or name a"
                " configuration with -c FILE."
            )
        if DEFAULT_CONFIG.is_file():
            parser.check_config(DEFAULT_CONFIG)
        self.config = parser.parse_args(args)
        options = self.config[self.config.subcommand]
        self.run, self.ckpt_path = self._find_run(options)
        if self.run is not None:
            at = args.index(self.config.subcommand) + 1
            args = [*args[:at], "-c", str(self.run.config_file), *args[at:]]
            self.config = parser.parse_args(args)
            if self.config.subcommand == "fit":
                if repeated := self._repeated(args, self.run):
                    self.config = parser.parse_args([argument for argument in args if argument not in repeated])
                self._refuse_changes(self.run)

    def _find_run(self, options: Any) -> tuple[runs.Run | None, str | Path | None]:
        root, ckpt_path = Path(options.trainer.default_root_dir or "runs"), options.ckpt_path
        if self.config.subcommand == "fit":
            if ckpt_path:
                checkpoints.read(ckpt_path)
            if options.resume is None:
                restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
                if restarts != "0":
                    raise UserError(
                        f"torchrun was given --max-restarts {restarts}: name the run, so that what it restarts goes on"
                        f" with it: torchrun … -m -- {__package__} fit --run NAME --resume"
                    )
                return None, ckpt_path
            if ckpt_path or (options.run and options.resume):
                raise UserError(
                    "--resume NAME goes on with a run as it was; leave out --run and --ckpt_path. Or begin a run and"
                    " go on with it by the same command: --run NAME --resume"
                )
            # by --run NAME --resume, a launcher that starts the command again goes on wherever the run has got to
            named = options.run and not options.resume
            run = runs.find_begun(root, options.run) if named else runs.find(root, options.resume, finished=False)
            return run, run.last_checkpoint() if run else None
        if options.resume is not None:
            raise UserError(f"--resume is an option of fit. Name the run to {self.config.subcommand} with --run NAME.")
        if ckpt_path:
            checkpoints.read(ckpt_path)
            run = runs.Run(Path(ckpt_path).absolute().parent.parent)
            return (run if run.config_file.is_file() else None), ckpt_path
        run = runs.find(root, options.run, finished=True)
        return run, run.best_checkpoint()

    def _repeated(self, args: list[str], run: runs.Run) -> list[str]:
        """The options ``--list+=item`` whose item is in the run's own list: the command that began it was repeated."""
        before = flat(yaml.safe_load(run.config_file.read_text(encoding="utf-8")))
        now = flat(self._options())
        appended = {argument: match[1] for argument in args if (match := re.match(r"--([\w.]+)\+=", argument))}
        return [
            argument
            for argument, name in appended.items()
            if before.get(name) and all(item in before[name] for item in now[name])
        ]

    def _refuse_changes(self, run: runs.Run) -> None:
        before = flat(yaml.safe_load(run.config_file.read_text(encoding="utf-8")))
        now = flat(self._options())
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k) and k not in CHANGEABLE)
        if changed:
            raise UserError(
                f"a resumed run keeps its options, but {changed[0]} is {now.get(changed[0])} and was"
                f" {before.get(changed[0])}. Only {', '.join(sorted(LIMITS))} may change; start a new run for the rest."
            )

    def _options(self) -> dict[str, Any]:
        """All options as plain values, as they were given."""
        options = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.config.subcommand]
        return {key: value for key, value in options.items() if key not in CALL_OPTIONS}

    def _config_text(self) -> str:
        """Text of a run's ``config.yaml``."""
        header = f"# To repeat this run in a new folder: python -m {__package__} fit -c FILE\n"
        return header + yaml.safe_dump(self._options(), sort_keys=False, allow_unicode=True)

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they are: Lightning would let a checkpoint's override those of the command line."""

    def before_instantiate_classes(self) -> None:
        options = self.config[str(self.subcommand)]
        options.data.seed = int(options.seed_everything)  # known only now where it is chosen at random
        fused = (options.model.optimizer.get("init_args") or {}).get("fused")
        self.device = hardware.check(options.trainer, bool(fused))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the run's folder, and a Trainer that writes into it."""
        given, options = self.config[str(self.subcommand)], self.config_init[str(self.subcommand)]
        trainer = options.trainer
        trainer.callbacks = list(trainer.callbacks or [])
        if self.ckpt_path is not None:
            checkpoints.check_model(self.ckpt_path, self.model)
        new = self.subcommand == "fit" and not trainer.fast_dev_run
        self.created = new and self.run is None
        if new and self.run is None:
            self.run = runs.create(Path(trainer.default_root_dir or "runs"), options.run, self._config_text())
        self.position = (
            checkpoints.position(checkpoints.read(self.ckpt_path)) if new and self.ckpt_path else checkpoints.Position()
        )
        if new and not runs.all_ranks_have("position", str(self.position)):
            raise UserError(
                f"this process reads {self.ckpt_path or 'no checkpoint'} and would go on from {self.position}, but"
                " rank 0 from somewhere else: the machines do not see the same files. Put the project on a file system"
                " that they share, or start the command again if they do."
            )
        if self.run is not None:
            trainer.default_root_dir = str(self.run.folder)
        elif self.ckpt_path is not None:
            trainer.default_root_dir = str(Path(self.ckpt_path).absolute().parent)
        if trainer.fast_dev_run:
            trainer.profiler = None  # it would write a report
        if not new:
            trainer.logger = False
        elif given.trainer.logger is None and self.run is not None:
            with self.discarded_on_error():
                trainer.logger = loggers.build(options.logger, options.logger_options, self.run, self.position.step)
        # without a logger or a run's folder these would fail, or write beside the runs
        idle = (*(() if trainer.logger else (LearningRateMonitor,)), *(() if self.run else (ModelCheckpoint,)))
        trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, idle)]
        trainer.callbacks += [SeedSteps(given.data.seed), CheckMonitors()]
        if self.subcommand == "fit":
            folder = self.run.checkpoints if self.run else None
            self.exact_resume = ExactResume(folder, given.save_every_n_steps)
            trainer.callbacks.insert(0, self.exact_resume)  # before others log or count the batch that is to come
            trainer.callbacks += [Throughput(self.run)] if self.run else []
            trainer.plugins = [*_listed(trainer.plugins), checkpoints.WholeFiles()]
        if SLURMEnvironment.detect() and not hardware.by_torchrun():
            # Lightning's own answer to SLURM's signals would save in the middle of a batch
            trainer.plugins = [*_listed(trainer.plugins), SLURMEnvironment(auto_requeue=False)]
        for callback in trainer.callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None and self.run is not None:
                callback.dirpath = str(self.run.checkpoints)
        with self.discarded_on_error():
            return super().instantiate_trainer(**kwargs)

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        speed.quicken(self.trainer)
        self.datamodule.resume_at = (self.position.epoch, self.position.batch)

    @contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """Leave no folder of a new run that could not even be set up."""
        try:
            yield
        except BaseException:
            if self.run is not None and self.created:
                self.run.discard()
            raise

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        # the checkpoint of a run that was found, which no option names; nothing in a checkpoint is ever executed
        return super()._prepare_subcommand_kwargs(subcommand) | {"ckpt_path": self.ckpt_path, "weights_only": True}

    @property
    def output_folder(self) -> Path:
        """Where results are written: the run's folder, or that of a checkpoint that belongs to no run."""
        return Path(self.trainer.default_root_dir)

    def say(self, text: str) -> None:
        """Print a text once, whatever the number of processes."""
        if self.trainer.is_global_zero:
            print(text, flush=True)

    def where(self) -> str:
        """The device, number of processes and precision in words."""
        chosen = "" if self.config[str(self.subcommand)].trainer.accelerator != "auto" else " (chosen automatically)"
        size = self.trainer.world_size
        processes = "1 process" if size == 1 else f"{size} processes"
        return f"{self.device}{chosen}, {processes}, precision {self.trainer.precision}"

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record in the run's folder how it is configured, that it is under way, and how it ended."""
        if self.run is None or not self.trainer.is_global_zero:
            yield
            return
        self.run.configure(self._config_text())  # of a resumed run, which may have other limits
        logged_as = self.run.record.get("logged_as", {})
        logged_as |= loggers.known_as(self.trainer.loggers)
        self.run.begin(device=self.device, processes=self.trainer.world_size, logged_as=logged_as)
        unused = None
        try:
            yield
        except BaseException as error:
            interrupted = isinstance(error, signals.Stopped)
            with suppress(OSError):  # what kept the run from writing may keep this from it too
                self.run.end("interrupted" if interrupted else "failed", error=f"{type(error).__name__}: {error}")
            # a mistake told in a line, before the first step: the same command is to work once it is mended
            unused = self.created and not self.trainer.global_step and isinstance(error, Exception) and message(error)
            raise
        finally:
            loggers.close(self.trainer.loggers)
            if unused:
                self.run.discard()
        self.run.end("finished")

    def keep_last_and_best(self) -> None:
        """Save the final state as ``last.ckpt``, and choose the best checkpoint for the test."""
        if self.run is None:
            return
        if self.trainer.global_step == 0:
            raise UserError("nothing was trained: the limits on epochs, steps or batches leave no step to take.")
        for name, value in self.trainer.callback_metrics.items():
            if not value.isfinite():
                raise DivergedError(
                    f"{name} is {value.item()} after epoch {self.trainer.current_epoch}: the training has diverged. Try"
                    " a lower learning rate, such as --model.optimizer.init_args.lr 0.0003."
                )
        if self.exact_resume.trained:
            self.exact_resume.save(self.trainer, self.model)
        self.ckpt_path = getattr(self.trainer.checkpoint_callback, "best_model_path", "") or None
        if self.trainer.is_global_zero:
            score = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
            self.run.update(
                best_checkpoint=Path(self.ckpt_path).name if self.ckpt_path else "last.ckpt",
                best_score=None if score is None else float(score),
            )

    def report(self, subcommand: str, metrics: Mapping[str, float]) -> None:
        """Print the metrics, and write them to a file in the run's folder."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(values + (f"  ({shown(Path(self.ckpt_path))})" if self.ckpt_path else ""))
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            checkpoint = str(self.ckpt_path) if self.ckpt_path else None
            text = json.dumps({"checkpoint": checkpoint, **metrics}, indent=2) + "\n"
            (self.output_folder / f"{subcommand}.json").write_text(text, encoding="utf-8")


def shown(path: Path) -> str:
    """A path as the user would type it: relative if it lies below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
