"""The commands: what they are called, what each does, and which module runs it. A module can be deleted alone."""

from __future__ import annotations

import difflib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module, metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import message

PACKAGE = __name__.partition(".")[0]
PROGRAM = f"python -m {PACKAGE}"
TRAINER = ("fit", "validate", "test", "predict")  # Lightning's own commands
NAMED = ("checkpoint", "early_stopping")  # callbacks with options of their own
ONE_PROCESS = ("--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto")  # whatever a run had
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
    "push": "Put an exported model on the Hugging Face hub.",
    "serve": "Serve an exported model: a page, and an API over HTTP.",
    "drift": "Compare what was served with what the model was tested on.",
    "completion": "Print what a shell needs to complete commands and options.",
}


def early(args: list[str], read: Callable[..., Any] | None, rows: Callable[..., Any] | None = None) -> int | None:
    """Run a command that needs neither torch nor the project's classes; None if this is another one."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of a stream whose file was exchanged
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal may lack a letter of a run's name
    return _exit_code(lambda: _early(args, read, rows))


def _early(args: list[str], read: Callable[..., Any] | None, rows: Callable[..., Any] | None) -> int | None:
    there = available()
    if not args or args[0] in ("-h", "--help"):
        print(usage(there), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] == "--version":
        try:
            print(f"{PACKAGE} {metadata.version(PACKAGE.replace('_', '-'))}")
        except metadata.PackageNotFoundError:
            print(f"{PACKAGE}, which is not installed: pip install -e .")
        return 0
    if args[0] not in there:
        near = difflib.get_close_matches(args[0], there, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        if args[0] in COMMANDS:
            guess = " It was left out; docs/update.md says how it is added."
        print(f"error: there is no command {args[0]}.{guess}\nAll commands: {PROGRAM} --help", file=sys.stderr)
        return 2
    if args[0] in ("runs", "push", "drift"):
        return _module(args[0]).main(args[1:])
    if args[0] == "serve":
        return _module("serve").main(args[1:], read, rows)
    if args[0] == "predict" and is_there("predict_onnx") and any(arg.split("=")[0] == "--onnx" for arg in args):
        return _module("predict_onnx").main(args[1:], read, rows)
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
        from .. import runs

        for name in named:
            runs.find(runs.default_root(), run_name(name), finished=True)
    return None


def main(module_class: type, data_class: type | None, args: list[str]) -> int:
    """Run a command with the project's classes, and return its exit code."""
    if (code := early(args, None)) is not None:
        return code
    if args[0] not in TRAINER or (args[0] == "predict" and has_files(args[1:])):
        from ..parser import quiet
        from ..ranks import FOLDER_VARIABLE

        try:
            with quiet():
                return int(_exit_code(lambda: _module(args[0]).main(args[1:], module_class, data_class)) or 0)
        finally:
            os.environ.pop(FOLDER_VARIABLE, None)  # it names the run of this command, not of the next in this process
    from .. import trainer

    return int(_exit_code(lambda: trainer.main(module_class, data_class, args)) or 0)


def available() -> dict[str, str]:
    """The commands that are there, and what each does."""
    return {name: text for name, text in COMMANDS.items() if name in TRAINER or is_there(name)}


def is_there(name: str) -> bool:
    """Whether a command's module is there: each may be deleted."""
    return Path(__file__).with_name(f"{name}.py").is_file()


def usage(there: dict[str, str]) -> str:
    """What ``--help`` prints."""
    lines = "\n".join(f"  {name:<12}{text}" for name, text in there.items())
    return (
        f"usage: {PROGRAM} COMMAND [options]\n\n{lines}\n\n"
        f"Begin with: {PROGRAM} fit\nOptions of a command: {PROGRAM} COMMAND --help"
    )


def after_fit(cli: Any) -> None:
    """Write the report of a run that has just finished, if that command is there; whatever happens, it is finished."""
    if not is_there("report"):
        return
    try:
        _module("report").after_fit(cli)
    except Exception as error:  # whatever a chart may trip over
        cli.say(f"No report was written: {brief(error)}")


def brief(error: Exception) -> str:
    """What went wrong, in one line."""
    return (message(error) or f"{type(error).__name__}: {error}").splitlines()[0][:300]


def test_result(run: Any) -> dict[str, Any]:
    """What a run's ``test.json`` holds; nothing where it is not there or damaged."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        return dict(json.loads((run.folder / "test.json").read_text(encoding="utf-8")))
    return {}


def as_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in columns, numbers to the right, and a dash for None."""
    cells = [["-" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    sides = [">" if any(isinstance(v, int | float) for v in column) else "<" for column in zip(*rows, strict=True)]
    lines = (map("{:{}{}}".format, row, sides, widths) for row in (header, *cells))
    return "\n".join("  ".join(line).rstrip() for line in lines)


def has_files(args: list[str]) -> bool:
    """Whether an argument is neither an option nor the value of one."""
    pairs = pairwise(["", *args])
    return any(not arg.startswith("-") and (not before.startswith("-") or "=" in before) for before, arg in pairs)


def run_name(name: str) -> str:
    """The name of a run as `runs.find` takes it: that of a folder is its whole path."""
    return str(Path(name).absolute()) if len(Path(name).parts) > 1 else name


def run_options(name: str | None) -> list[str]:
    """Options of Lightning's commands that choose a run by its name or folder; None takes the newest finished one."""
    return [f"--run={run_name(name)}"] if name else []


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
