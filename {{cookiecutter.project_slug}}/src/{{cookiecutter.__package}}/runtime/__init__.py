"""The machinery of this project: run folders, exact resume, loggers, commands. It is the same in every project.

Nobody edits this folder; ``cruft update`` replaces it. Nothing here imports the files beside it. `main` is given the
two classes that a project consists of, and any LightningModule and LightningDataModule will do.

What follows is the contract: names that the machinery looks for on the two classes. Each is optional, and gives more.
``docs/own-code.md`` has an example of each.

On the LightningDataModule:

- ``seed``: an argument of ``__init__``. It follows ``seed_everything``.
- ``class_names``: a list of texts. Predictions and exports name the classes by it.
- ``predict_paths``: an argument of ``__init__``, a list of paths or None. ``predict PATH …`` fills it, and
  ``predict_dataloader`` then yields what is in them.
- ``fingerprint()``: a text that changes when the data change. Every run records it, and is not resumed on other data.
- ``baseline()``: what a simple model reaches, ``{name: {metric: value}}``. The report shows it.
- ``fold`` and ``num_folds``: arguments of ``__init__``, both or none. Of ``num_folds`` parts of what is not tested, the
  part ``fold``, from 0, is for validation, and ``predict_dataloader`` yields it in the place of the test data. Where
  ``fold`` is None, all of it is for training. Where ``num_folds`` is None, there are no parts. `repeat` sets both.

On the LightningModule:

- ``headline``: the metric that counts, ``(name, "max" or "min", unit)``, such as ``("accuracy", "max", "%")``. The name
  has no split before it. The unit ``%`` stands for a fraction that is shown in percent. Where it depends on the data,
  ``__init__`` sets it.
- ``rows(predictions, data)``: the rows of ``predictions.csv``, as column names and a list of rows.
- ``show(outputs, batch, data)``: pictures for the logger, ``{name: PIL image}``. ``outputs`` has what each step
  returned, and ``batch`` is the first batch.
- ``sections(predictions, data)``: sections of the report, a list of ``(title, html)``. Where ``html`` is a function
  that returns the HTML, a section that fails leaves the others.
- ``exported()``: the ``nn.Module`` that ``export`` writes. Its attribute ``facts``, a dict of plain values, is stored
  with it.
- ``layer_groups()``: lists of layers from the input to the output, for fine-tuning.

``predictions`` is what the Trainer's ``predict`` gives: a dict of columns with one entry for each item.

One rule more: an argument of the LightningModule that has the name of a property of the LightningDataModule is filled
from it, such as ``num_classes``. Nobody has to type it, and nobody can.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import commands, signals


def early(
    args: Sequence[str], read: Callable[..., Any] | None = None, rows: Callable[..., Any] | None = None
) -> int | None:
    """Run a command that needs neither torch nor the project's classes, such as ``--help`` or ``runs``.

    Args:
        args: The command line without the program's name.
        read: Reads new inputs for ``predict --onnx``; the function ``read`` of the project's ``inputs.py``.
        rows: Turns what was predicted into a table; its function ``rows``, or None for `predictions.table`.

    Returns:
        The exit code, or None where the command is one for `main`.
    """
    signals.install()  # a signal may come in the seconds that the import of torch and Lightning takes
    return commands.early(list(args), read, rows)


def main(module_class: type, data_class: type | None = None, args: Any = None) -> Any:
    """Run a command with the project's two classes.

    Args:
        module_class: The LightningModule.
        data_class: The LightningDataModule; None if the LightningModule has the data loaders.
        args: The command line without the program's name; None takes that of this process. A function in its place is
            called with the two classes, and what it returns is returned.

    Returns:
        The exit code: 0 if what was asked was done, 1 if it failed, and where a signal stopped it that of
        `signals.EXIT_CODES`. A mistake on the command line ends the process with 2.
    """
    if callable(args):
        return args(module_class, data_class)
    return commands.main(module_class, data_class, list(sys.argv[1:] if args is None else args))
