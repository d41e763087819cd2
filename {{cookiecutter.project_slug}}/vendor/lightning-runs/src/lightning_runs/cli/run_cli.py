"""LightningCLI with run folders: it finds or makes the run of a command, and builds model, data and Trainer for it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningCLI

from .. import contract, runs
from ..contract import Contract
from ..errors import UserError
from ..names import program
from ..resume import checkpoint_files, differences
from ..resume.callback import ExactResume, refuse_callbacks
from ..resume.checkpoint_files import Position
from ..resume.checkpoint_state import restore_attributes
from ..runs import ranks
from ..runs.options import config_text, flat
from ..training import callbacks, hardware, loggers, speed
from . import classes, trainer_setup
from .arguments import option_values, run_name
from .help_text import SILENT
from .parser import Parser, with_references

DEFAULT_CONFIG = Path("configs/default.yaml")
# Type, default and help of each option that a run has beside those of Lightning.
OPTIONS = {
    "logger": (loggers.Loggers, ["csv"], "wandb, tensorboard, mlflow, csv, none, or a class; csv is on beside it."),
    "save_every_n_steps": (int, 200, "Optimizer steps between two saves of the whole training state."),
    "debug": (str | None, None, "Mark the run as a trial; other commands take it only by its name."),
    "run": (str, None, "Name of the new run (fit), or of the run to evaluate."),
    "accept_changes": (bool, False, "Resume a run although its options or its data have changed (fit)."),
    "test": (bool, True, "Test the best checkpoint; false validates it, and leaves the test data alone (fit)."),
    "weights": (str | None, None, "Start from the weights of this run's best checkpoint, or of a file."),
    "weights_strict": (bool, True, "Refuse weights that are missing or do not fit."),
}
# Options of a single call, which config.yaml leaves out.
CALL_OPTIONS = {"config", "run", "resume", "accept_changes", "test", "ckpt_path", *SILENT}


class RunCLI(LightningCLI):
    """Lightning's command line with a folder for each run, loggers by name, and evaluation of a run's best checkpoint.

    Without ``execute`` it only finds the run of a command, and builds model, data module and Trainer. The argument
    ``callbacks`` has those that do not belong to the run's configuration.

    Attributes:
        run: The run that is trained or evaluated; None for a checkpoint outside of a run, and under fast_dev_run.
        ckpt_path: The checkpoint to resume from or to evaluate.
        links: Values of the model's arguments that come from the data module, as text.
    """

    trainer: Any  # Lightning gives it attributes that a type checker can't see
    parser: Any
    exact_resume: ExactResume
    run: runs.Run | None = None
    ckpt_path: str | Path | None = None
    created = False  # whether this command has made the run
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
        self._command = args[0]
        self.execute = execute
        self.extra_callbacks = list(callbacks)
        self.defaults = (module_class, data_class)
        default = DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
        try:
            self._set_up(classes.chosen(args, self.defaults, default))
        except classes.OtherClassesError as other:  # known only now, when the run was found
            self._set_up(other.args)

    def _set_up(self, chosen: classes.Classes) -> None:
        self.classes = chosen
        self.contract = Contract(*chosen)
        self.links: dict[str, str] = {}
        self._checkpoint: dict[str, Any] | None = None  # the content of `ckpt_path`
        try:
            super().__init__(
                *chosen,
                args=classes.without_names(self.args),
                parser_class=Parser,
                parser_kwargs={"prog": program()},
                save_config_callback=None,  # the folder gets its config.yaml when it is made
                auto_configure_optimizers=False,
                seed_everything_default=0,
            )
        finally:
            if self.run is not None:
                self.run.unlock()  # for a later training in this process

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the given command alone: each command's parser takes a tenth of a second to make."""
        return {self._command: super().subcommands()[self._command]}

    def __deepcopy__(self, memo: dict[int, Any]) -> "RunCLI":
        """Return the object itself: callbacks copy the model with its optimizer factories, which refer to it."""
        return self

    # ---- Options

    def add_arguments_to_parser(self, parser: Parser) -> None:
        """Add the options of runs and loggers, and fill arguments of the model from the data module."""
        self._command_parser = parser
        for name, (kind, default, text) in OPTIONS.items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        text = "Resume this run; without a name, the newest unfinished one (fit)."
        parser.add_argument("--resume", nargs="?", const="", type=str, help=text)
        parser.add_class_arguments(speed.SpeedOptions, "speed")
        callbacks.add_callback_options(parser)
        if self.contract.has("seed"):
            parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        for name in self.contract.linked:
            link = partial(contract.linked_value, name, self.links)
            parser.link_arguments("data", f"model.{name}", compute_fn=link, apply_on="instantiate")

    def parse_arguments(self, parser: Parser, args: list[str]) -> None:
        """Parse the options; a command on a run takes them on top of the run's own configuration.

        Which run that is depends on options, of the command line and of files. So they are parsed once to find the
        run, and once more with the run's configuration.
        """
        files = [Path(file) for file in option_values(self.args, "-c", "--config")]
        if DEFAULT_CONFIG.is_file():
            files = [DEFAULT_CONFIG, *files]
        elif not files and not {"-h", "--help"} & set(args):  # the parser would pass over it without a word
            raise UserError(f"{DEFAULT_CONFIG} is not in {Path.cwd()}. Go to the project's folder, or give -c FILE.")
        parser.command = self._command_parser
        parser.command.choose = self._options_of_classes
        if self.classes != self.defaults:
            parser.command.named = partial(classes.written, classes=self.classes, defaults=self.defaults)
        parser.command.default_config_files = [str(DEFAULT_CONFIG)]
        parser.command.origins = parser.origins
        parser.command.lists_all_options = args[-1] == "all"
        for file in files:
            parser.check_file(file)
        parser.lacks_options = True  # a run's configuration may have what is required
        self.config = parser.parse(args)
        parser.lacks_options = False
        self._find_run(self.config[self._command])
        self._check_classes()
        if self.run is None:
            parser.validate(self.config)
        else:
            self.links.update(self.run.record.get("linked", {}))
            self._parse_again(parser, args[1:], self.run)

    def _options_of_classes(self, options: Any, folder: Path, is_default: bool) -> Any:
        # without a name, options are of train.py's class in the default file, and else of the class in use
        owners = self.defaults if is_default else self.classes
        options = classes.options_of_groups(options, folder, self.classes, owners)
        return classes.with_loggers(options, self.args) if isinstance(options, dict) else options

    def _check_classes(self) -> None:
        """Take the classes that the run was trained with, and refuse others."""
        if self.run is None:
            return
        trained = classes.of_file(self.run.config_file, self.defaults)
        for given, owner in zip(classes.chosen(self.args, trained), trained, strict=True):
            if given is not owner:
                text = f"was trained with {classes.path_of(owner)}, and {classes.path_of(given)} is given."
                raise UserError(f"the run {self.run.name} {text} A run keeps its classes; train a new one.")
        if trained != self.classes:
            raise classes.OtherClassesError(*trained)

    def _parse_again(self, parser: Parser, args: list[str], run: runs.Run) -> None:
        """Parse the options on top of a run's configuration; a resumed run refuses changed ones."""
        fit = self._command == "fit"
        parser.check_file(run.config_file)
        trained = differences.options_of(run, self._checkpoint if fit else None)
        self.config = parser.parse([self._command, "-c", str(run.config_file), *args])
        options = self.config[self._command]
        for name in differences.repeated(trained, flat(self.options())):
            options[name] = options[name][: len(trained[name])]
        if fit:
            differences.refuse(run, trained, flat(self.options()), bool(options.accept_changes))

    def options(self) -> dict[str, Any]:
        """Return all options as plain values, as they were given."""
        options = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[self._command]
        without = CALL_OPTIONS if options["weights"] else {*CALL_OPTIONS, "weights", "weights_strict"}
        options = {name: value for name, value in options.items() if name not in without}
        options = with_references(options, self.parser.unresolved.get(self._command))
        return classes.written(options, self.classes, self.defaults)

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they are: Lightning would let those of a checkpoint override the command line."""

    # ---- The run

    def _find_run(self, options: Any) -> None:
        root = Path(options.trainer.default_root_dir or "runs")
        self.ckpt_path = options.ckpt_path
        if self._command == "fit":
            self._find_run_to_resume(options, root)
        elif options.resume is not None or option_values(self.args, "--weights"):
            raise UserError(f"--resume and --weights are options of fit. Name the run to {self._command} with --run.")
        elif self.ckpt_path:
            run = runs.Run(Path(self.ckpt_path).absolute().parent.parent)
            self.run = run if run.config_file.is_file() else None
        else:
            self._choose_run("found", lambda: runs.find(root, options.run, finished=True))
            assert self.run is not None
            self.ckpt_path = checkpoint_files.best_checkpoint(self.run)
        if self.ckpt_path and self._checkpoint is None:
            self._checkpoint = checkpoint_files.read(self.ckpt_path)

    def _find_run_to_resume(self, options: Any, root: Path) -> None:
        if options.ckpt_path and options.weights:
            raise UserError("--ckpt_path and --weights are given; a training starts from one of them.")
        if options.resume is None:
            return
        if options.ckpt_path or (options.run and options.resume):
            hint = "To start a run, and resume it later by the same command: --run NAME --resume"
            raise UserError(f"--resume NAME names the run already; leave out --run and --ckpt_path. {hint}")

        def find() -> runs.Run | None:
            # by --run NAME --resume a launcher repeats one command, and the run continues wherever it has got to
            run = runs.Run(root.absolute() / options.run) if options.run else runs.find(root, options.resume, False)
            return run if run.config_file.is_file() else None

        self._choose_run("resumed", find)
        found = checkpoint_files.newest_readable(self.run.checkpoints) if self.run is not None else None
        if found is not None:
            self.ckpt_path, self._checkpoint = found

    def _choose_run(self, question: str, choose: Callable[[], runs.Run | None]) -> None:
        """Set the run that rank 0 finds or makes; to train it, rank 0 locks it."""

        def folder_of_choice() -> str:
            self.run = choose()
            if self.run is not None and self._command == "fit":
                self.run.lock()
            return "" if self.run is None else str(self.run.folder)

        folder = ranks.choice_of_rank_0(question, folder_of_choice)
        if folder and self.run is None:
            self.run = runs.Run(Path(folder))

    # ---- What is built

    def before_instantiate_classes(self) -> None:
        """Give the seed to the data, and check the device."""
        options = self.config[self._command]
        self.seed = int(options.seed_everything or 0)  # known only now if it is chosen at random
        if self.contract.has("seed"):
            options.data.seed = self.seed
        self.device = hardware.check(options.trainer)

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer; data of an existing run get its class names."""
        if not self.execute and self._command == "fit":
            return
        super().instantiate_classes()
        names = None if self.run is None or self.created else self.run.record.get("class_names")
        if names:
            with suppress(AttributeError):  # no data module, or a property of the user's without a setter
                self.datamodule.class_names = names
        speed.apply(self.config_init[self._command].speed, self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the run's folder, and a Trainer that writes into it."""
        options = self.config_init[self._command]
        fit = self._command == "fit"
        kept = fit and self.is_kept and not options.trainer.fast_dev_run
        if fit:
            if options.trainer.barebones:
                raise UserError("trainer.barebones is true, but a run needs callbacks. Leave it false.")
            refuse_callbacks(trainer_setup.as_list(options.trainer.callbacks))
        root = Path(options.trainer.default_root_dir or "runs")
        self.position = self._checked_position(kept)
        if kept and self.run is None:
            text = config_text(self.options())
            self._choose_run("new", lambda: runs.Run(runs.make_folder(root, options.run, text)))
            self.created = True
        try:
            trainer_setup.set_outputs(self, options, kept)
            trainer_setup.set_callbacks(self, options, fit)
            if fit and options.weights and not self.ckpt_path:
                arguments = (run_name(options.weights), options.weights_strict, root, self.run)
                options.trainer.callbacks.append(checkpoint_files.StartingWeights(*arguments))
            trainer_setup.set_plugins(options.trainer)
            return super().instantiate_trainer(**kwargs)
        except BaseException:
            if self.run is not None and self.created:  # a run that could not even be set up
                self.run.discard()
            raise

    def _checked_position(self, kept: bool) -> Position:
        """Refuse a checkpoint that does not fit, and return the position that a kept training begins at."""
        checkpoint = self._checkpoint
        self._checkpoint = None  # frees the memory
        if checkpoint is None:
            return Position()
        checkpoint_files.check_model(str(self.ckpt_path), checkpoint, self.model)
        with suppress(Exception):  # Lightning loads it again after `setup`, which a data module may need for it
            self.datamodule.load_state_dict(checkpoint[type(self.datamodule).__qualname__])
        return checkpoint_files.position(self.ckpt_path, checkpoint) if kept else Position()

    def _run_subcommand(self, subcommand: str) -> None:
        if self.execute:
            super()._run_subcommand(subcommand)

    def load(self) -> Any:
        """Load the checkpoint into the model as a Trainer does, for use without one, and return the model."""
        checkpoint = checkpoint_files.read(str(self.ckpt_path))
        self.trainer.state.fn = "predict"
        self.model.trainer = self.trainer  # the module's hooks may ask it what is done
        self.model.configure_model()
        self.model.on_load_checkpoint(checkpoint)
        self.model.load_state_dict(checkpoint["state_dict"], strict=self.model.strict_loading)
        self.model.trainer = None
        restore_attributes(checkpoint.get("attributes", [{}])[0], None, self.model)
        return self.model.eval()
