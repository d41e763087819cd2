"""The commands: a table of them, and the function that runs one."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from .. import names
from ..cli.arguments import option_values, options
from ..cli.messages import ALL_FRAMES, guess, print_error
from ..errors import require
from ..names import program
from ..resume import signals
from . import version


class Command(NamedTuple):
    """A command: a line about it, and the module whose `main` runs it."""

    text: str
    module: str
    needs_torch: bool = True  # and the two classes
    packages: tuple[str, ...] = ()  # that the module imports, of the extra with the module's name


ONNX = ("onnx", "onnxscript", "onnxruntime")
COMMANDS = {
    "fit": Command("Train, then test the best checkpoint.", "fit"),
    "validate": Command("Measure a run's best checkpoint on the validation data.", "fit"),
    "test": Command("Measure a run's best checkpoint on the test data.", "fit"),
    "predict": Command("Predict the test data, or new files: predict PATH …", "fit"),
    "runs": Command("Show a table of all runs.", "runs", needs_torch=False),
    "report": Command("Write an HTML page that shows a run, or compares several.", "report"),
    "lr_find": Command("Suggest a learning rate, from a few steps.", "lr_find"),
    "sweep": Command("Search for better options.", "sweep", packages=("optuna",)),
    "repeat": Command("Train over several seeds or folds: mean and spread.", "repeat", packages=("scipy",)),
    "export": Command("Write a trained model as ONNX and torch.export files.", "export", packages=ONNX),
    "serve": Command(
        "Serve an exported model over HTTP, with a page to try it.",
        "serve",
        needs_torch=False,
        packages=("fastapi", "fastapi_offline", "python_multipart", "uvicorn", "onnxruntime"),
    ),
    "init": Command("Set up a project of your own classes to use this library.", "init", needs_torch=False),
    "docs": Command("List the pages of the documentation, or print one: docs PAGE", "docs", needs_torch=False),
}
PREDICT_FILES = Command("Predict new files.", "predict")
PREDICT_ONNX = Command("Predict new files by an exported model.", "predict_onnx", needs_torch=False)


def command_of(args: Sequence[str]) -> Command:
    """Return the command that a command line calls for."""
    if args[0] == "predict" and option_values(args, "--onnx"):
        return PREDICT_ONNX
    if args[0] == "predict" and any(not word.startswith("-") for word, _, _ in options(args[1:])):
        return PREDICT_FILES
    return COMMANDS[args[0]]


def run(
    module_class: type,
    data_class: type | None = None,
    args: Sequence[str] | Callable[[type, type | None], Any] | None = None,
    *,
    package: str | None = None,
) -> Any:
    """Run a command with the project's two classes.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule; None if the LightningModule has the data loaders.
        args: The command line without the program's name; None takes that of this process. A function is called with
            the two classes instead, and its result is returned.
        package: The project's package, ``__package__`` of its ``train.py``; None for a script.

    Returns:
        The exit code: 0 if the command did its work, 1 if it failed, and after a signal that of `signals.EXIT_CODES`.
        A mistake on the command line ends the process with 2.
    """
    names.set_package(package)
    if callable(args):
        return args(module_class, data_class)
    return main(module_class, data_class, list(sys.argv[1:] if args is None else args))


def without_project(args: list[str]) -> int:
    """Run a command of ``python -m lightning_runs``, and return its exit code."""
    names.set_package("lightning_runs")
    code = early(args)
    if code is None:
        print(f"error: {args[0]} needs a project. Set one up: {program()} init", file=sys.stderr)
    return 2 if code is None else code


def main(module_class: type, data_class: type | None, args: list[str]) -> int:
    """Run a command with the project's classes, and return its exit code."""
    code = early(args)
    if code is not None:
        return code
    from ..cli.chatter import quiet
    from ..runs import ranks

    def run_command(given: list[str]) -> int:
        command = command_of(given)
        # one module runs Lightning's four commands, and is given the name
        return _module(command).main(given if command.module == "fit" else given[1:], module_class, data_class)

    try:
        with quiet():
            return _exit_code(run_command, args) or 0
    except signals.Stopped as stop:
        if ranks.launched_by_rank_0():  # whose watch over this process would take another code for a crash
            return 0
        resuming = {"fit": ["fit", "--resume"], "sweep": args, "repeat": args}.get(args[0])
        hint = f"; to resume: {program()} {shlex.join(resuming)}" if resuming else ""
        print(f"stopped by {stop.name}{hint}", file=sys.stderr)
        return int(stop.code or 1)
    finally:
        os.environ.pop(ranks.FOLDER_VARIABLE, None)  # it names the run of this command, not of the next in this process


def early(args: list[str]) -> int | None:
    """Run a command that needs neither torch nor the project's classes, and return its code; None for another one."""
    signals.install()  # a signal may come in the seconds that the import of torch and Lightning takes
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of a stream whose file was exchanged
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal may lack a letter of a run's name
    return _exit_code(_early, args)


def _early(args: list[str]) -> int | None:
    if not args or args[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] == "--version":
        print(f"lightning-runs {version.VERSION}")
        return 0
    if args[0] not in COMMANDS:
        print(f"error: there is no command {args[0]}.{guess(args[0], COMMANDS)}", file=sys.stderr)
        print(f"All commands: {program()} --help", file=sys.stderr)
        return 2
    version.warn_once(names.package())
    command = command_of(args)
    return None if command.needs_torch else _module(command).main(args[1:])


def usage() -> str:
    """Return what ``--help`` prints."""
    lines = "\n".join(f"  {name:<12}{command.text}" for name, command in COMMANDS.items())
    more = f"Options of a command: COMMAND --help\nThe whole traceback of an error: COMMAND {ALL_FRAMES} …"
    return f"usage: {program()} COMMAND [options]\n\n{lines}\n\n{more}"


def _module(command: Command) -> Any:
    require(command.module, *command.packages)
    return import_module(f"{__name__}.{command.module}")


def _exit_code(command: Callable[[list[str]], int | None], args: list[str]) -> int | None:
    """Run a command, and print its error, or raise it with `ALL_FRAMES`."""
    try:
        try:
            return command([argument for argument in args if argument != ALL_FRAMES])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of a reader that has seen enough, as in `runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes in the end
        return 141  # as if SIGPIPE had ended the process
    except Exception as error:
        if ALL_FRAMES in args:
            raise
        print_error(error)
        return 1
