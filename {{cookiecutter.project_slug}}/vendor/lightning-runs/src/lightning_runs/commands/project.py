"""A project's package: its command line, and training and prediction from Python with the same runs and files."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import names
from ..cli.messages import is_mistake, message
from ..errors import Mistake, UserError
from ..resume.signals import Stopped
from ..runs import Run
from . import early


class Project:
    """A project's package: its command line, and training and prediction from Python.

    Args:
        package: The package's name; its module ``train`` has the function ``main``, which calls `lightning_runs.run`.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def main(self, args: list[str] | None = None) -> int:
        """Run a command, such as ``["fit"]``, and return the exit code; None takes the process's command line."""
        given = list(sys.argv[1:] if args is None else args)
        names.set_package(self.package)
        code = early(given)  # a command that needs no torch
        return self._train_main(given) if code is None else code

    def _train_main(self, args: Any) -> Any:
        """Call ``train.main``; a function as ``args`` gets the two classes."""
        return import_module(f"{self.package}.train").main(args)

    def fit(self, *configs: str | Path, **options: Any) -> Run | None:
        """Train and test as the command ``fit`` does. Return the run, or None under ``fast_dev_run``, which has none.

        Args:
            configs: Configuration files, such as ``"configs/quick.yaml"``.
            options: Options of ``fit`` by name, a group of them as a dict: ``run="a"``, ``trainer={"max_epochs": 3}``.

        Raises:
            UserError: An option is wrong, or the training failed by a mistake that can be fixed.
            KeyboardInterrupt: Ctrl-C, or a notebook's stop. ``fit(resume=True)`` resumes the run.
        """
        from .fit import run_trainer_command

        args = ["fit", *(f"--config={file}" for file in configs), *arguments_of(options)]
        with _errors_for_python(self.package):
            return self._train_main(lambda module, data: run_trainer_command(module, data, args).run)

    def load(self, run: str | Path | Run | None = None) -> "Model":
        """Load the best checkpoint of a run: of that name or folder, or the newest finished one.

        Raises:
            UserError: There is no such run, or its checkpoint can't be used.
        """
        name = str(run.folder if isinstance(run, Run) else run or "")
        with _errors_for_python(self.package):
            return self._train_main(lambda *classes: Model(self.package, classes, name))


class Model:
    """A trained model.

    Attributes:
        run: Its run.
        module: The LightningModule with the weights of the best checkpoint, in evaluation mode, on the CPU.
        data: The LightningDataModule, or None.
        metrics: What the test of the run measured, by name.
    """

    def __init__(self, package: str, classes: tuple[type, type | None], run: str) -> None:
        from ..runs.run import results

        self._package = package
        self._classes = classes
        cli = self._cli(run)
        self.run: Run = cli.run
        self.module = cli.load()
        self.data = cli.datamodule
        self.metrics = {name: value for name, value in results(cli.run).items() if name != "checkpoint"}

    def predict(self, inputs: Any = None) -> list[dict[str, Any]]:
        """Predict, and return a dict for each item, with the columns that ``predict`` writes.

        Args:
            inputs: A path, or a list of them; None for the data that the run is tested on.

        Raises:
            UserError: The inputs can't be read, or the project's classes can't predict them.
        """
        from ..reports import predictions
        from .predict import predict_paths

        with _errors_for_python(self._package):
            if inputs is None:
                cli = self._cli(str(self.run.folder))
                header, rows = predictions.rows(cli, predictions.compute(cli))
            else:
                files = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
                header, rows, missing = predict_paths(files, str(self.run.folder), *self._classes)
                for name in missing:
                    warnings.warn(f"{name} has no prediction.", stacklevel=2)
        return [dict(zip(header, row, strict=True)) for row in rows]

    def _cli(self, run: str) -> Any:
        from ..cli.arguments import ONE_PROCESS, run_options
        from ..cli.run_cli import RunCLI

        return RunCLI(*self._classes, ["predict", *run_options(run), *ONE_PROCESS], execute=False)


def arguments_of(options: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Yield options as those of the command line; a group of them is a dict."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from arguments_of(value, f"{group}{name}.")
        elif name == "resume" and value is True:
            yield "--resume"
        else:
            yield f"--{group}{name}={value if isinstance(value, str | Path) else json.dumps(value)}"


@contextmanager
def _errors_for_python(package: str) -> Iterator[None]:
    """Turn exits and one-line errors into exceptions that a caller can handle, and restore the environment."""
    from ..cli.chatter import quiet

    names.set_package(package)
    environment = dict(os.environ)
    try:
        with quiet():
            yield
    except Mistake as mistake:
        raise UserError(mistake.text) from None
    except Stopped as stop:
        if stop.name != "SIGINT":
            raise
        raise KeyboardInterrupt("the training was stopped; fit(resume=True) resumes it") from None
    except Exception as error:
        if isinstance(error, UserError) or not is_mistake(error):
            raise
        raise UserError(message(error)) from error
    finally:  # Lightning notes the seed there, for processes that it starts
        os.environ.clear()
        os.environ.update(environment)
