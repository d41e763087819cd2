"""The commands: the table of their names, and the module that runs each."""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import names
from .. import runs as run_folders  # `runs` is the command of this package
from ..cli.arguments import has_files, run_name
from ..cli.messages import message
from ..names import package, program
from ..resume import signals

TRAINER = ("fit", "validate", "test", "predict")  # Lightning's own commands
COMMANDS = {
    "fit": "Train, then test the best checkpoint.",
    "validate": "Measure a run's best checkpoint on the validation data.",
    "test": "Measure a run's best checkpoint on the test data.",
    "predict": "Predict the test data, or new files: predict PATH …",
    "runs": "Show a table of all runs.",
    "report": "Write an HTML page that shows a run, or compares several.",
    "lr_find": "Suggest a learning rate, from a few steps.",
    "sweep": "Search for better options.",
    "repeat": "Train over several seeds or folds: mean and spread of metrics.",
    "export": "Write a trained model as ONNX and torch.export files.",
    "docs": "Print a page of the documentation.",
}
WITHOUT_TORCH = ("runs", "docs")


def run(
    module_class: type, data_class: type | None = None, args: Any = None, *, package: str | None = None
) -> Any:
    """Run a command with the project's two classes.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule; None if the LightningModule has the data loaders.
        args: The command line without the program's name; None takes that of this process. A function is called with
            the two classes instead, and its result is returned.
        package: The project's package, ``__package__`` of its ``train.py``, by which messages name the program.

    Returns:
        The exit code: 0 if the command did its work, 1 if it failed, and after a signal that of `signals.EXIT_CODES`.
        A mistake on the command line ends the process with 2.
    """
    names.use(package)
    if callable(args):
        return args(module_class, data_class)
    return main(module_class, data_class, list(sys.argv[1:] if args is None else args))


def early(args: list[str]) -> int | None:
    """Run a command that needs neither torch nor the project's classes, such as ``--help`` or ``runs``.

    Returns:
        The exit code, or None for a command that needs the project's classes.
    """
    signals.install()  # a signal may come in the seconds that the import of torch and Lightning takes
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of a stream whose file was exchanged
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal may lack a letter of a run's name
    return _exit_code(lambda: _early(args))


def _early(args: list[str]) -> int | None:
    if not args or args[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] == "--version":
        try:
            print(f"{package()} {metadata.version(package().replace('_', '-'))}")
        except metadata.PackageNotFoundError:
            print(f"{package()}, which is not installed: pip install -e .")
        return 0
    if args[0] not in COMMANDS:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        print(f"error: there is no command {args[0]}.{guess}\nAll commands: {program()} --help", file=sys.stderr)
        return 2
    if args[0] in WITHOUT_TORCH:
        return _module(args[0]).main(args[1:])
    if args[0] == "predict" and any(arg.split("=")[0] == "--onnx" for arg in args):
        return _module("predict_onnx").main(args[1:])
    return _check(args[0], args[1:])


def _check(command: str, args: list[str]) -> int | None:
    """Refuse a file or a run that is not there now, for the import of torch takes seconds."""
    if any(arg in ("-h", "--help") for arg in args):
        return None
    values: dict[str, str] = {}
    for arg, value in pairwise([*args, ""]):
        name, sign, given = arg.partition("=")
        values[name] = given if sign else value
    config = values.get("--config", values.get("-c"))
    if command in TRAINER and config and not Path(config).is_file():
        there = ", ".join(file.as_posix() for file in sorted(Path("configs").glob("*.yaml")))
        print(f"error: there is no file {config}. Files of options: {there or 'none'}", file=sys.stderr)
        return 2
    named = [values["--run"]] if command in TRAINER[1:] and "--run" in values else []
    if command in ("report", "export"):
        named = [arg for before, arg in pairwise(["", *args]) if not before.startswith("-") and not arg.startswith("-")]
    if named and not {"--trainer.default_root_dir", "--config", "-c"} & {*values}:
        for name in named:
            run_folders.find(run_folders.default_root(), run_name(name), finished=True)
    return None


def main(module_class: type, data_class: type | None, args: list[str]) -> int:
    """Run a command with the project's classes, and return its exit code."""
    if (code := early(args)) is not None:
        return code
    if args[0] not in TRAINER or (args[0] == "predict" and has_files(args[1:])):
        from ..cli.chatter import quiet
        from ..runs.ranks import FOLDER_VARIABLE

        try:
            with quiet():
                return int(_exit_code(lambda: _module(args[0]).main(args[1:], module_class, data_class)) or 0)
        finally:
            os.environ.pop(FOLDER_VARIABLE, None)  # it names the run of this command, not of the next in this process
    from . import fit

    return int(_exit_code(lambda: fit.main(module_class, data_class, args)) or 0)


def usage() -> str:
    """Return what ``--help`` prints."""
    lines = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    return (
        f"usage: {program()} COMMAND [options]\n\n{lines}\n\n"
        f"Begin with: {program()} fit\nOptions of a command: {program()} COMMAND --help"
    )


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")


def _exit_code(command: Callable[[], int | None]) -> int | None:
    """Run a command, and print a mistake of the user in a line."""
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of a reader that has seen enough, as in `runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes in the end
        return 141  # as where SIGPIPE ends a process
    except Exception as error:
        if (text := message(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
