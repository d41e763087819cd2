"""Many trainings in one process, for `sweep` and `repeat`: runs NAME-STEM, each locked while a process trains it.

A process for each run would import torch each time, and a forked process can't use a GPU that its parent has used.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pytorch_lightning.callbacks import Callback

from ..cli.arguments import launcher_arguments
from ..cli.run_cli import RunCLI
from ..errors import UserError
from ..files import write_whole
from ..names import program
from ..resume import signals
from ..resume.differences import CHANGEABLE, LIMITS
from ..runs import Run, check_name
from ..runs.options import flat
from .fit import run_trainer_command


def argument_parser(command: str, usage: str, purpose: str) -> argparse.ArgumentParser:
    """Return a parser for the command's own options, which the caller adds."""
    return argparse.ArgumentParser(
        prog=f"{program()} {command}",
        usage=f"%(prog)s [NAME] {usage} [options of fit, for every run]",
        description=f"{purpose} Results: runs/NAME (default: {command}), and a folder runs/NAME-… for each run. The"
        " same command again resumes the work; in a second terminal, it shares the work.",
        allow_abbrev=False,
    )


def words(values: Mapping[str, Any]) -> str:
    """Return values in a line, each after the last part of its name."""
    texts = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}
    return "  ".join(f"{name.rpartition('.')[2]} {text}" for name, text in texts.items())


class Trials:
    """The runs of a command, with options of `fit` that they share and some of their own.

    Args:
        parser: The parser of the command's own options.
        args: The command, a name or none, and options.
        classes: The LightningModule, and the LightningDataModule or None.
    """

    def __init__(self, parser: argparse.ArgumentParser, args: list[str], classes: tuple[type, type | None]) -> None:
        self.args = args
        self.classes = classes
        self.command = args[0]
        has_name = len(args) > 1 and not args[1].startswith("-")  # a later word may be an option's value
        self.name = args[1] if has_name else self.command
        self.options, self.fit_args = parser.parse_known_args(args[2 if has_name else 1 :])
        check_name("NAME", self.name)
        self.refuse("--run", "--resume", "--ckpt_path")
        self.base = self.fit_options({})
        if self.base["trainer.fast_dev_run"]:
            raise UserError(f"trainer.fast_dev_run keeps no run, and {self.command} needs them. Leave it out.")
        self.folder = Path(self.base["trainer.default_root_dir"] or "runs") / self.name
        self.lock = self.lock_of(self.command)  # of a process that takes a run, or writes results

    def refuse(self, *names: str) -> None:
        """Refuse options of `fit` that the command sets for each run."""
        for argument in self.fit_args:
            if argument.partition("=")[0] in names:
                raise UserError(f"{argument} is refused: {self.command} sets it for each run. Leave it out.")

    def fit_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options of a run with these values; the parser ends the process if it refuses one."""
        return flat(RunCLI(*self.classes, ["fit", *self.fit_args, *_arguments(values)], execute=False).options())

    def begin(self, pattern: str, **values: Any) -> None:
        """Record the options and values that must stay the same, or compare them with the record."""
        file = self.folder / f"{self.command}.json"
        hint = f"Choose another name: {self.command} NAME"
        others = [*self.folder.glob("config.yaml"), *self.folder.parent.glob(f"{self.name}-{pattern}")]
        if others and not file.is_file():  # the record is older than the runs, so it is looked for last
            raise UserError(f"{others[0]} exists, and does not belong to this {self.command}. {hint}")
        kept = {name: value for name, value in self.base.items() if name not in CHANGEABLE - LIMITS}
        now = json.loads(json.dumps(kept | values, default=str))
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lock:
            if not file.is_file():
                write_whole(file, json.dumps(now, indent=2) + "\n")
        before = json.loads(file.read_text("utf-8"))
        for name in sorted(now | before):
            if now.get(name) != before.get(name):
                change = f"{name} is {json.dumps(now.get(name))} and was {json.dumps(before.get(name))}"
                raise UserError(f"{change} when {file} was written. {hint}")

    def run(self, stem: str) -> Run:
        """Return the run NAME-STEM."""
        return Run(self.folder.with_name(f"{self.name}-{stem}"))

    def lock_of(self, stem: str) -> FileLock:
        """Return the lock of a run, which the system frees when its process dies."""
        return FileLock(self.folder / f"{stem}.lock")

    def train(self, stem: str, values: Mapping[str, Any], callbacks: Sequence[Callback] = ()) -> None:
        """Train or resume a run with `fit`, which prints to ``NAME/STEM.txt``."""
        args = ["fit", *self.fit_args, *_arguments(values), f"--run={self.name}-{stem}", "--resume"]
        with (self.folder / f"{stem}.txt").open("a", encoding="utf-8") as file:
            try:
                with redirect_stdout(file), launcher_arguments(args):
                    run_trainer_command(*self.classes, args, callbacks=callbacks)
            except signals.Stopped as stop:
                print(f"stopped by {stop.name}; to resume: {program()} {shlex.join(self.args)}", file=sys.stderr)
                raise
        if "torch._dynamo" in sys.modules:  # otherwise it compiles only the first eight networks of a process
            torch.compiler.reset()


def _arguments(values: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
