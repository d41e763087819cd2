"""LightningCLI with run folders: where a training goes, how it is found again, and what its Trainer is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins import DoublePrecision

from .. import contract, runs
from ..contract import Contract
from ..errors import UserError
from ..names import package, program
from ..resume import checkpoint_files, differences
from ..resume.callback import ExactResume
from ..resume.checkpoint_files import Position
from ..runs import ranks
from ..runs.options import config_text, flat
from ..training import callbacks, hardware, loggers, speed
from . import interpolation, trainer_setup
from .parser import Parser

DEFAULT_CONFIG = Path("configs/default.yaml")
# Options of one call; they are not configuration.
CALL_OPTIONS = (
    *("config", "run", "resume", "accept_changes", "ckpt_path", "weights_only", "verbose", "return_predictions"),
)


class RunCLI(LightningCLI):
    """Lightning's command line with a folder for each run, loggers by name, and evaluation of a run's best checkpoint.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule, or None.
        args: The command line, the command first.
        execute: Run the command; otherwise its run is found, and model, data module and Trainer are built.
        callbacks: Callbacks that are no part of the run's configuration.

    Attributes:
        args: The command line.
        run: The run that is trained or evaluated; None for a checkpoint that belongs to none, and under fast_dev_run.
        ckpt_path: The checkpoint to go on with or to evaluate; ``created`` tells that the run is a new one.
        links: Values of the model's arguments that the data module gave, as text.
    """

    trainer: Any  # Lightning gives it attributes that a type checker can't see
    parser: Any
    exact_resume: ExactResume
    run: runs.Run | None = None
    ckpt_path: str | Path | None = None
    created = False
    is_kept = True  # whether a training has a run's folder

    def __init__(
        self,
        module_class: type,
        data_class: type | None,
        args: list[str],
        execute: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.args = args
        self._command = next((argument for argument in args if not argument.startswith("-")), "")
        self.contract = Contract(module_class, data_class)
        self.execute = execute
        self.extra_callbacks = list(callbacks)
        self.links: dict[str, str] = {}
        self._options: dict[str, Any] | None = None
        self._checkpoint: dict[str, Any] | None = None  # what the file at `ckpt_path` holds
        defaults = {"default_config_files": [str(DEFAULT_CONFIG)], "whole": args[-1:] == ["all"]}
        try:
            super().__init__(
                module_class,
                data_class,
                args=args,
                parser_class=Parser,
                parser_kwargs={"prog": program(), **{name: dict(defaults) for name in self.subcommands()}},
                save_config_callback=None,  # the folder is given its config.yaml when it is made
                auto_configure_optimizers=False,
                seed_everything_default=0,
            )
        finally:
            if self.run is not None:
                self.run.unlock()  # for a later training in this process

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The command that was asked for; each command's parser takes a tenth of a second to make."""
        every = super().subcommands()
        return {name: every[name] for name in every if name == self._command} or every

    def __deepcopy__(self, memo: dict[int, Any]) -> RunCLI:
        """Itself: what builds optimizers refers to it, and callbacks copy the model with these."""
        return self

    # ---- Options

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add the options of runs and loggers, and fill arguments of the model from the data module."""
        parser.add_argument("--logger", type=loggers.LoggerName, default="csv", help="Logger; csv is on beside it.")
        parser.add_class_arguments(loggers.LoggerOptions, "logger_options")
        parser.add_class_arguments(speed.SpeedOptions, "speed")
        callbacks.add_named(parser)
        parser.add_argument(
            "--save_every_n_steps",
            type=int,
            default=200,
            help="Optimizer steps between two saves of all that a killed run needs to go on.",
        )
        parser.add_argument(
            "--debug", type=str | None, help="Marks a run as a trial; other commands take it only by its name."
        )
        parser.add_argument("--run", type=str, help="Name of the new run (fit), or of the run to evaluate.")
        parser.add_argument(
            "--resume",
            nargs="?",
            const="",
            type=str,
            help="Go on with this run, the newest unfinished one, or --run NAME if begun (fit).",
        )
        parser.add_argument(
            "--accept_changes", type=bool, default=False, help="Go on with a run whose options have changed (fit)."
        )
        if self.contract.has("seed"):
            parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        for name in self.contract.linked:
            link = partial(contract.link, name, self.links)
            parser.link_arguments("data", f"model.{name}", compute_fn=link, apply_on="instantiate")

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        """Parse the options; where they name a run, on top of that run's own configuration."""
        Parser.files.clear()  # of an earlier command of this process
        named = any(argument.startswith(("-c", "--config", "-h", "--help")) for argument in args)
        if not named and not DEFAULT_CONFIG.is_file():  # which the parser would pass over without a word
            raise UserError(
                f"{DEFAULT_CONFIG} is not in {Path.cwd()}. Run this in the project's folder, or name a"
                " configuration with -c FILE."
            )
        if DEFAULT_CONFIG.is_file():
            parser.check_config(DEFAULT_CONFIG)
        self.config = parser.parse_args(args)
        self._find_run(self.config[self.config.subcommand])
        if self.run is not None:
            self.links.update(self.run.record.get("linked", {}))
            self._parse_again(parser, args, self.run)

    def _parse_again(self, parser: Parser, args: list[str], run: runs.Run) -> None:
        parser.check_config(run.config_file)
        fit = self._command == "fit"
        before = differences.options_of(run, self._checkpoint if fit else None)
        at = args.index(self.config.subcommand) + 1
        args = [*args[:at], *differences.WITHOUT_NAMED, "-c", str(run.config_file), *args[at:]]
        self.config = parser.parse_args(args)
        options = self.config[self.config.subcommand]
        for name in differences.repeated(before, flat(self._plain())):
            options[name] = options[name][: len(before[name])]
        if fit:
            differences.refuse(run, before, flat(self._plain()), bool(self.config.fit.accept_changes))

    def _plain(self) -> dict[str, Any]:
        options = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.config.subcommand]
        options = {key: value for key, value in options.items() if key not in CALL_OPTIONS}
        return interpolation.as_written(options, self.parser.texts)

    def options(self) -> dict[str, Any]:
        """All options as plain values, as they were given; of a batch size, as it was found."""
        if self._options is None:
            self._options = self._plain()  # takes 30 ms
        return self._options

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they are: Lightning would let a checkpoint's override those of the command line."""

    # ---- The run

    def _find_run(self, options: Any) -> None:
        """Find the run to go on with or to evaluate, and its checkpoint."""
        root, command = Path(options.trainer.default_root_dir or "runs"), self.config.subcommand
        self.ckpt_path = options.ckpt_path
        if command != "fit" and options.resume is not None:
            raise UserError(f"--resume is an option of fit. Name the run to {command} with --run NAME.")
        if command == "fit":
            self._find_run_to_resume(options, root)
        elif self.ckpt_path:
            run = runs.Run(Path(self.ckpt_path).absolute().parent.parent)
            self.run = run if run.config_file.is_file() else None
        else:
            self.run = self._chosen("found", lambda: runs.find(root, options.run, finished=True))
            self.ckpt_path = checkpoint_files.best_checkpoint(self.run) if self.run else None
        if self.ckpt_path and self._checkpoint is None:
            self._checkpoint = checkpoint_files.read(self.ckpt_path)

    def _find_run_to_resume(self, options: Any, root: Path) -> None:
        if options.resume is None:
            restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
            if restarts != "0":
                raise UserError(
                    f"torchrun was given --max-restarts {restarts}: name the run, so that what it restarts goes on with"
                    f" it: torchrun … -m -- {package()} fit --run NAME --resume"
                )
            return
        if options.ckpt_path or (options.run and options.resume):
            raise UserError(
                "--resume NAME goes on with a run as it was; leave out --run and --ckpt_path. Or begin a run and go on"
                " with it by the same command: --run NAME --resume"
            )

        def find() -> runs.Run | None:
            # by --run NAME --resume, a launcher that starts the command again goes on wherever the run has got to
            run = runs.Run(root.absolute() / options.run) if options.run else runs.find(root, options.resume, False)
            return run if run.config_file.is_file() else None

        self.run = self._chosen("resumed", find)
        if self.run is not None and (found := checkpoint_files.newest_whole(self.run.checkpoints, print)):
            self.ckpt_path, self._checkpoint = found

    def _chosen(self, question: str, find: Callable[[], runs.Run | None]) -> runs.Run | None:
        """The run that rank 0 finds or makes; to train it, rank 0 locks it."""
        found: list[runs.Run] = []

        def choose() -> str:
            if (run := find()) is None:
                return ""
            if self._command == "fit":
                run.lock()
            found.append(run)
            return str(run.folder)

        folder = ranks.shared(question, choose)
        return found[0] if found else runs.Run(Path(folder)) if folder else None

    # ---- What is built

    def _set_seed(self) -> None:
        if self.execute or self.subcommand != "fit":  # else nothing is built
            super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Pass the seed to the data, and check the device."""
        options = self.config[str(self.subcommand)]
        self.seed = int(options.seed_everything or 0)  # known only now where it is chosen at random
        if self.contract.has("seed"):
            options.data.seed = self.seed
        self.device = hardware.check(options.trainer)

    def instantiate_classes(self) -> None:
        """Make model, data and Trainer; a run that is there gives its class names."""
        if not self.execute and self.subcommand == "fit":
            return
        super().instantiate_classes()
        names = self.run.record.get("class_names") if self.run is not None and not self.created else None
        if names and self.datamodule is not None:
            with suppress(AttributeError):  # a property of the user's without a setter
                self.datamodule.class_names = names
        speed.apply(self.config_init[str(self.subcommand)].speed, self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the run's folder, and a Trainer that writes into it."""
        options = self.config_init[str(self.subcommand)]
        trainer = options.trainer
        fit = self.subcommand == "fit"
        new = fit and self.is_kept and not trainer.fast_dev_run
        if fit:
            trainer_setup.refuse_callbacks(trainer)
        self.position, checkpoint, self._checkpoint = Position(), self._checkpoint, None
        if checkpoint is not None:
            checkpoint_files.check_model(str(self.ckpt_path), checkpoint, self.model)
            with suppress(Exception):  # Lightning loads it again after `setup`, which a data module may need for it
                self.datamodule.load_state_dict(checkpoint[type(self.datamodule).__qualname__])
            self.position = checkpoint_files.position(self.ckpt_path, checkpoint) if new else self.position
        if new and self.run is None:
            root, text = Path(trainer.default_root_dir or "runs"), config_text(self.options())
            self.run = self._chosen("new", lambda: runs.Run(runs.make_folder(root, options.run, text)))
            self.created = True
        try:
            if new:
                ranks.compare_positions(str(self.position), self.ckpt_path)
            trainer_setup.outputs(self, trainer, options, new)
            trainer_setup.callbacks(self, trainer, options, fit)
            trainer_setup.plugins(trainer, fit)
            built = super().instantiate_trainer(**kwargs)
        except BaseException:
            if self.run is not None and self.created:  # a run that could not even be set up
                self.run.discard()
            raise
        if isinstance(built.precision_plugin, DoublePrecision):
            # Lightning loads a checkpoint before it does this, and would round the weights to float32
            built.precision_plugin.convert_module(self.model)
        return built

    def _run_subcommand(self, subcommand: str) -> None:
        if self.execute:
            super()._run_subcommand(subcommand)

    def load(self) -> Any:
        """Load the checkpoint's weights into the model, for use without a Trainer, and return the model."""
        weights = checkpoint_files.read(str(self.ckpt_path))["state_dict"]
        self.model.load_state_dict(weights, strict=self.model.strict_loading)
        return self.model.eval()
