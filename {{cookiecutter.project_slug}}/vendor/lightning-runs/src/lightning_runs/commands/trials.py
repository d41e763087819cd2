"""Many trainings in one process, for `sweep` and `repeat`: runs NAME-STEM, beside the folder NAME.

A process for each run would import torch each time, and a forked process can't use a GPU that its parent has used.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from ..cli.arguments import launcher_arguments
from ..cli.run_cli import RunCLI
from ..errors import UserError
from ..files import write_whole
from ..names import program
from ..resume.differences import CHANGEABLE, LIMITS
from ..runs import Run, check_name
from ..runs.options import flat
from .fit import run_trainer_command
from .project import arguments_of


def argument_parser(command: str, purpose: str) -> argparse.ArgumentParser:
    """Return a parser for the command's own options, which the caller adds."""
    return argparse.ArgumentParser(
        prog=f"{program()} {command} [NAME] [options of fit]",
        description=f"{purpose} Results: runs/NAME (default: {command}) and runs/NAME-…. The same command resumes.",
        allow_abbrev=False,
    )


class Trials:
    """The runs of a command, with options of `fit` that they share and some of their own."""

    def __init__(self, parser: argparse.ArgumentParser, args: list[str], classes: tuple[type, type | None]) -> None:
        self.classes = classes
        self.command = args[0]
        has_name = len(args) > 1 and not args[1].startswith("-")  # a later word may be an option's value
        self.name = args[1] if has_name else self.command
        self.options, self.fit_args = parser.parse_known_args(args[2 if has_name else 1 :])
        check_name("NAME", self.name)
        self.refuse("--run", "--resume", "--ckpt_path", "--trainer.fast_dev_run")
        self.base = self.fit_options({})
        self.folder = Path(self.base["trainer.default_root_dir"] or "runs") / self.name

    def refuse(self, *names: str) -> None:
        """Refuse options of `fit` that the command sets for each run, or can't do with."""
        for argument in self.fit_args:
            if argument.partition("=")[0] in names:
                raise UserError(f"{argument} is not an option of {self.command}. Leave it out.")

    def fit_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options of a run with these values; the parser ends the process if it refuses one."""
        return flat(RunCLI(*self.classes, ["fit", *self.fit_args, *arguments_of(values)], execute=False).options())

    @contextmanager
    def locked(self, pattern: str, **values: Any) -> Iterator[None]:
        """Lock the folder, and record options and values that must stay the same, or compare them with the record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Run(self.folder)
        folder.lock()
        try:
            file = self.folder / f"{self.command}.json"
            kept = {name: value for name, value in self.base.items() if name not in CHANGEABLE - LIMITS}
            now = json.loads(json.dumps(kept | values, default=str))
            if not file.is_file():
                for other in self.folder.parent.glob(f"{self.name}-{pattern}"):  # runs that something else has trained
                    raise UserError(f"{other} exists, and does not belong to this {self.command}. Choose another NAME.")
                write_whole(file, json.dumps(now, indent=2) + "\n")
            before = json.loads(file.read_text("utf-8"))
            for name in sorted(now | before):
                if now.get(name) != before.get(name):
                    change = f"{name} is {now.get(name)} and was {before.get(name)} when {file} was written"
                    raise UserError(f"{change}. Choose another NAME: {self.command} NAME …, or remove {self.folder}.")
            yield
        finally:
            folder.unlock()

    def run(self, stem: str) -> Run:
        """Return the run NAME-STEM."""
        return Run(self.folder.with_name(f"{self.name}-{stem}"))

    def train(self, stem: str, values: Mapping[str, Any], callbacks: Sequence[Callback] = ()) -> None:
        """Train or resume a run with `fit`, which prints to ``NAME/STEM.txt``."""
        args = ["fit", *self.fit_args, *arguments_of({**values, "run": f"{self.name}-{stem}", "resume": True})]
        resumes = self.run(stem).config_file.is_file()
        print(f"{self.name}-{stem} {'resumes' if resumes else 'starts'}: {values}", flush=True)
        output = self.folder / f"{stem}.txt"
        with output.open("a", encoding="utf-8") as file, redirect_stdout(file), launcher_arguments(args):
            os.environ.setdefault("WANDB_RUN_GROUP", self.name)  # of W&B; --logger.group is stronger
            run_trainer_command(*self.classes, args, callbacks=callbacks)
        if "torch._dynamo" in sys.modules:  # otherwise it compiles only the first eight networks of a process
            torch.compiler.reset()
