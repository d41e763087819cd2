"""LightningCLI with run folders: where a training goes, how it is found again, and what its Trainer is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.plugins import DoublePrecision

from . import assembly, changes, checkpoints, contract, hardware, loggers, ranks, runs, speed
from .checkpoints import Position, flat
from .commands import PACKAGE, PROGRAM
from .contract import Contract
from .errors import UserError
from .loaders import ExactLoaders
from .parser import Parser
from .resume import ExactResume

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
        run: The run that is trained or evaluated; None for a checkpoint that belongs to none, and under fast_dev_run.
        ckpt_path: The checkpoint to go on with or to evaluate; ``created`` tells that the run is a new one.
        links: Values of the model's arguments that the data module gave, as text.
    """

    trainer: Any  # Lightning gives it attributes that a type checker can't see
    exact_loaders: ExactLoaders
    exact_resume: ExactResume
    run: runs.Run | None = None
    ckpt_path: str | Path | None = None
    created = False

    def __init__(
        self,
        module_class: type,
        data_class: type | None,
        args: list[str],
        execute: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._command = next((argument for argument in args if not argument.startswith("-")), "")
        self.contract = Contract(module_class, data_class)
        self.execute = execute
        self.extra_callbacks = list(callbacks)
        self.links: dict[str, str] = {}
        self._checkpoint: dict[str, Any] | None = None  # what the file at `ckpt_path` holds
        defaults = {"default_config_files": [str(DEFAULT_CONFIG)]}
        super().__init__(
            module_class,
            data_class,
            args=args,
            parser_class=Parser,
            parser_kwargs={"prog": PROGRAM, **{name: dict(defaults) for name in self.subcommands()}},
            save_config_callback=None,  # the folder is given its config.yaml when it is made
            auto_configure_optimizers=False,
            seed_everything_default=0,
        )

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
        named = any(argument.startswith(("-c", "--config", "-h", "--help")) for argument in args)
        if not named and not DEFAULT_CONFIG.is_file():  # which the parser would pass over without a word
            raise UserError(
                f"{DEFAULT_CONFIG} is not in {Path.cwd()}. Run this in the project's folder, or name a"
                " configuration with -c FILE."
            )
        if DEFAULT_CONFIG.is_file():
            parser.check_config(DEFAULT_CONFIG)
        self.config = parser.parse_args(args)
        self.run, self.ckpt_path = self._find_run(self.config[self.config.subcommand])
        if self.run is not None:
            self.links.update(self.run.record.get("linked", {}))
            self._parse_again(parser, args, self.run)

    def _parse_again(self, parser: Parser, args: list[str], run: runs.Run) -> None:
        accept = bool(self.config[self.config.subcommand].accept_changes)
        before = changes.options_of(run, self._checkpoint)
        at = args.index(self.config.subcommand) + 1
        args = [*args[:at], "-c", str(run.config_file), *args[at:]]
        self.config = parser.parse_args(args)
        if self.config.subcommand == "fit":
            if repeated := changes.repeated(args, before, flat(self.options())):
                self.config = parser.parse_args([argument for argument in args if argument not in repeated])
            changes.refuse(run, before, flat(self.options()), accept)

    def options(self) -> dict[str, Any]:
        """All options as plain values, as they were given."""
        options = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.config.subcommand]
        return {key: value for key, value in options.items() if key not in CALL_OPTIONS}

    def config_text(self) -> str:
        """Text of a run's ``config.yaml``."""
        header = f"# To repeat this run in a new folder: {PROGRAM} fit -c FILE\n"
        options = self.options()
        for name, value in flat(options).items():
            if "Unable to serialize instance" in str(value):  # jsonargparse's words
                raise UserError(
                    f"{name} is an object that can't be written to config.yaml, so the run could be neither resumed nor"
                    " repeated. Give a value for it, as a number or a text."
                )
        return header + yaml.safe_dump(options, sort_keys=False, allow_unicode=True)

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they are: Lightning would let a checkpoint's override those of the command line."""

    # ---- The run

    def _find_run(self, options: Any) -> tuple[runs.Run | None, str | Path | None]:
        root, ckpt_path = Path(options.trainer.default_root_dir or "runs"), options.ckpt_path
        if ckpt_path:
            self._checkpoint = checkpoints.read(ckpt_path)
        if self.config.subcommand == "fit":
            run = self._run_to_resume(options, root)
            if run is None:
                return None, ckpt_path
            path, self._checkpoint = checkpoints.newest_whole(run.checkpoints, print) or (None, None)
            return run, path
        if options.resume is not None:
            raise UserError(f"--resume is an option of fit. Name the run to {self.config.subcommand} with --run NAME.")
        if ckpt_path:
            run = runs.Run(Path(ckpt_path).absolute().parent.parent)
            return (run if run.config_file.is_file() else None), ckpt_path
        run = runs.Run(Path(ranks.shared("found", lambda: str(runs.find(root, options.run, finished=True).folder))))
        return run, run.best_checkpoint()

    def _run_to_resume(self, options: Any, root: Path) -> runs.Run | None:
        """The run to go on with, locked; None if a new one is begun."""
        if options.resume is None:
            restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
            if restarts != "0":
                raise UserError(
                    f"torchrun was given --max-restarts {restarts}: name the run, so that what it restarts goes on with"
                    f" it: torchrun … -m -- {PACKAGE} fit --run NAME --resume"
                )
            return None
        if options.ckpt_path or (options.run and options.resume):
            raise UserError(
                "--resume NAME goes on with a run as it was; leave out --run and --ckpt_path. Or begin a run and go on"
                " with it by the same command: --run NAME --resume"
            )
        chosen: list[runs.Run] = []

        def choose() -> str:
            # by --run NAME --resume, a launcher that starts the command again goes on wherever the run has got to
            run = runs.Run(root.absolute() / options.run) if options.run else runs.find(root, options.resume, False)
            if not run.config_file.is_file():
                return ""
            run.lock()
            chosen.append(run)
            return str(run.folder)

        folder = ranks.shared("resumed", choose)
        return chosen[0] if chosen else runs.Run(Path(folder)) if folder else None

    def _create_run(self, trainer: Any, name: str | None) -> runs.Run:
        chosen: list[runs.Run] = []

        def choose() -> str:
            run = runs.Run(runs.make_folder(Path(trainer.default_root_dir or "runs"), name, self.config_text()))
            run.lock()
            chosen.append(run)
            return str(run.folder)

        folder = ranks.shared("new", choose)
        self.created = True
        return chosen[0] if chosen else runs.Run(Path(folder))

    # ---- What is built

    def before_instantiate_classes(self) -> None:
        options = self.config[str(self.subcommand)]
        self.seed = int(options.seed_everything or 0)  # known only now where it is chosen at random
        if self.contract.has("seed"):
            options.data.seed = self.seed
        model = flat(options.as_dict().get("model") or {})
        fused = any(value is True for name, value in model.items() if name.split(".")[-1] == "fused")
        self.device = hardware.check(options.trainer, fused)

    def instantiate_classes(self) -> None:
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
        if self.ckpt_path is not None:
            self._checkpoint = self._checkpoint or checkpoints.read(self.ckpt_path)
            checkpoints.check_model(str(self.ckpt_path), self._checkpoint, self.model)
            with suppress(Exception):  # Lightning loads it again after `setup`, which a data module may need for it
                self.datamodule.load_state_dict(self._checkpoint[type(self.datamodule).__qualname__])
        fit = self.subcommand == "fit"
        new = fit and not trainer.fast_dev_run
        self.position = checkpoints.position(self._checkpoint) if new and self._checkpoint else Position()
        self._checkpoint = None
        if new and self.run is None:
            self.run = self._create_run(trainer, options.run)
        with self._discarded_on_error():
            if new:
                ranks.compare_positions(str(self.position), self.ckpt_path)
            assembly.outputs(self, trainer, options, new)
            assembly.callbacks(self, trainer, options, fit)
            assembly.plugins(trainer, fit)
            built = super().instantiate_trainer(**kwargs)
        if isinstance(built.precision_plugin, DoublePrecision):
            # Lightning loads a checkpoint before it does this, and would round the weights to float32
            built.precision_plugin.convert_module(self.model)
        return built

    @contextmanager
    def _discarded_on_error(self) -> Iterator[None]:
        """Leave no folder of a new run that could not even be set up."""
        try:
            yield
        except BaseException:
            if self.run is not None and self.created:
                self.run.discard()
            raise

    def _run_subcommand(self, subcommand: str) -> None:
        if self.execute:
            super()._run_subcommand(subcommand)

    def load(self) -> Any:
        """Load the checkpoint's weights into the model, for use without a Trainer, and return the model."""
        weights = checkpoints.read(str(self.ckpt_path))["state_dict"]
        self.model.load_state_dict(weights, strict=self.model.strict_loading)
        return self.model.eval()
