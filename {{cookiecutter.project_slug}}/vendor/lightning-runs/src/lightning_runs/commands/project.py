"""Training and predicting from Python, such as in a notebook: the same runs and files as those of the command line."""

from __future__ import annotations

import csv
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import names
from ..cli.messages import message
from ..errors import Mistake, UserError
from ..resume.signals import Stopped
from ..runs import Run
from . import early


class Project:
    """A project's package: its command line, and its training and prediction from Python.

    Args:
        package: The package's name; its module ``train`` has the function ``main``, which calls `lightning_runs.run`.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def main(self, args: list[str] | None = None) -> int:
        """Run a command, such as ``["fit"]``, and return the exit code; None takes the process's command line."""
        given = list(sys.argv[1:] if args is None else args)
        names.use(self.package)
        code = early(given)  # a command that needs no torch
        return self._main(given) if code is None else code

    def _main(self, args: Any) -> Any:
        """Call ``train.main``; a function as ``args`` gets the two classes."""
        return import_module(f"{self.package}.train").main(args)

    def fit(self, *configs: str | Path, **options: Any) -> Run | None:
        """Train and test as the command ``fit`` does. Return the run, or None under ``fast_dev_run``, which has none.

        Args:
            configs: Configuration files, such as ``"configs/quick.yaml"``.
            options: Options of ``fit`` by name, a group of them as a dict: ``run="a"``, ``trainer={"max_epochs": 3}``.

        Raises:
            UserError: An option is wrong, or the training failed by a mistake that can be mended.
            KeyboardInterrupt: Ctrl-C, or a notebook's stop. ``fit(resume=True)`` goes on.
        """
        from .fit import run_trainer_command

        args = ["fit", *(f"--config={file}" for file in configs), *_arguments(options)]
        with _told():
            return self._main(lambda *classes: run_trainer_command(classes[0], classes[1], args).run)

    def load(self, run: str | Path | Run | None = None) -> Model:
        """Load the best checkpoint of a run: of that name or folder, or the newest finished one.

        Raises:
            UserError: There is no such run, or its checkpoint can't be used.
        """
        with _told():
            return self._main(lambda *classes: Model(classes, str(run.folder if isinstance(run, Run) else run or "")))


class Model:
    """A trained model.

    Attributes:
        run: Its run.
        module: The LightningModule with the weights of the best checkpoint, in evaluation mode, on the CPU.
        data: The LightningDataModule, or None.
        metrics: What the test of the run measured, by name.
    """

    def __init__(self, classes: Any, run: str) -> None:
        from ..runs.run import test_result

        self._classes = classes
        cli = self._cli(run)
        self.run, self.module, self.data = cli.run, cli.load(), cli.datamodule
        self.metrics = {name: value for name, value in test_result(cli.run).items() if name != "checkpoint"}

    def _cli(self, run: str) -> Any:
        from ..cli.arguments import ONE_PROCESS, run_options
        from ..cli.run_cli import RunCLI

        return RunCLI(self._classes[0], self._classes[1], ["predict", *run_options(run), *ONE_PROCESS], execute=False)

    def predict(self, inputs: Any = None) -> list[dict[str, Any]]:
        """Predict, and return a dict for each item, with the columns that ``predict`` writes.

        Args:
            inputs: A path, or a list of them; rows of a table as dicts; an array with a batch of what an exported model
                takes; None for the data that the run is tested on.

        Raises:
            UserError: The inputs can't be read, or the project's classes can't predict them.
        """
        from ..reports import predictions

        paths, is_table, without = [inputs] if isinstance(inputs, str | Path) else inputs, False, []
        with _told(), TemporaryDirectory() as folder:
            if paths is None:
                cli = self._cli(str(self.run.folder))
                header, rows = predictions.rows(cli, predictions.compute(cli))
            elif hasattr(paths, "__array__"):
                import torch

                from .exported import Network

                network = Network(self.module, self.data)
                outputs = network.outputs(network.inputs(torch.as_tensor(paths)))
                columns = {name: output.tolist() for name, output in outputs.items()}
                header, rows = predictions.table(columns, network.class_names or None)
            else:
                from .predict import predict_paths

                if is_table := isinstance(paths[0], Mapping):
                    paths = [_written(paths, Path(folder) / "rows.csv")]
                header, rows, without = predict_paths(list(map(Path, paths)), str(self.run.folder), *self._classes)
            for name in without:
                if is_table:
                    raise UserError(f"{name} has no prediction.")
                warnings.warn(f"{name} has no prediction.", stacklevel=2)
        return [{k: v for k, v in zip(header, row, strict=True) if not (is_table and k == "file")} for row in rows]


def _written(rows: Any, file: Path) -> Path:
    """Write rows of a table as a CSV file."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return file


def _arguments(options: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Options as those of the command line."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _arguments(value, f"{group}{name}.")
        else:
            text = str(value) if isinstance(value, str | Path) else json.dumps(value)
            yield "--resume" if (name, value) == ("resume", True) else f"--{group}{name}={text}"


@contextmanager
def _told() -> Iterator[None]:
    """Raise what would end the process, or is told without a traceback, as an error that a caller can handle."""
    from ..cli.chatter import quiet

    environment = dict(os.environ)
    try:
        with quiet():
            yield
    except Mistake as mistake:
        raise UserError(mistake.text) from None
    except Stopped as stop:
        if stop.name != "SIGINT":
            raise
        raise KeyboardInterrupt("the training was stopped; fit(resume=True) goes on") from None
    except Exception as error:
        if (text := message(error)) is None or (isinstance(error, UserError) and text == str(error)):
            raise
        raise UserError(text) from error
    finally:  # Lightning notes the seed there, for processes that it starts
        os.environ.clear()
        os.environ.update(environment)
