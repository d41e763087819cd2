"""``predict PATH …``: predict new inputs by a run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..cli.arguments import ONE_PROCESS, run_options
from ..errors import UserError
from ..names import program
from ..reports import predictions
from ..reports.tables import as_text


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Predict new inputs by a run: its data module reads them, and the Trainer predicts.

    Returns:
        The exit code: 0, or 1 if some inputs have no prediction; the others are predicted all the same.
    """
    options = parse(args)
    header, rows, without = of_paths(options.paths, options.run, module_class, data_class)
    for name in without:
        print(f"error: {name} has no prediction", file=sys.stderr)
    show(header, rows, options.csv)
    return 1 if without else 0


def of_paths(
    paths: list[Path], run: str | None, module_class: type, data_class: type | None
) -> tuple[list[str], list[list[Any]], list[str]]:
    """Predict what is in files or folders by a run; return a table's header and rows, and the inputs without any.

    Raises:
        UserError: The data module can't be given paths.
    """
    from .. import contract
    from ..cli.run_cli import RunCLI

    if not contract.Contract(module_class, data_class).has("predict_paths"):
        raise UserError(
            f"{data_class.__name__ if data_class else 'a project without a data module'} can't be given paths. Add to"
            " the data module's __init__ an argument predict_paths, a list of paths or None, and let predict_dataloader"
            " yield what is in them."
        )
    if not any(path.exists() for path in paths):
        raise UserError(f"{paths[0]} does not exist, so it can't be predicted.")
    chosen = f"--data.predict_paths={json.dumps([str(path) for path in paths])}"
    given = ["predict", *run_options(run), *ONE_PROCESS, chosen, "--trainer.limit_predict_batches=1.0"]
    cli = RunCLI(module_class, data_class, given, execute=False)
    columns = predictions.compute(cli)
    # by now the data module may have an attribute of that name, with the files that it has found in folders
    names = [str(path) for path in contract.get("predict_paths", cli.datamodule) or paths]
    index = [int(i) for i in columns.get("index", range(len(names)))]
    without = [names[i] for i in sorted(set(range(len(names))).difference(index))]
    header, rows = predictions.rows(cli, columns)
    if "file" not in header and len(rows) == len(index) <= len(names):
        header, rows = ["file", *header], [[names[i], *row] for i, row in zip(index, rows, strict=True)]
    return header, rows, without


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line after ``predict``."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} predict",
        description="Predict what is in files or folders. (Without PATH, predict takes the test data.)",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of files")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model; torch is not needed")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV file, with all columns")
    return parser.parse_args(args)


def show(header: list[str], rows: list[list[Any]], file: Path | None) -> None:
    """Write a CSV file, or print the table without the columns that only a CSV file has."""
    if not rows:
        raise UserError("nothing was predicted.")
    if file:
        predictions.write_csv(file, header, rows)
        print(f"{len(rows)} predictions: {file}")
        return
    files = {i for i, cell in enumerate(rows[0]) if isinstance(cell, predictions.Attached)}
    kept = [i for i, name in enumerate(header) if not name.startswith("p(") and i not in files][:6]
    print(as_text([header[i] for i in kept], [[row[i] for i in kept] for row in rows]))
    for i in files:
        print(f"To write each {header[i]} as a file too: --csv FILE")
