"""``predict PATH …``: predict new inputs by a run."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .. import runs
from ..cli.arguments import ONE_PROCESS, run_name, run_options
from ..errors import UserError
from ..names import program
from ..reports.tables import Attachment, as_text, write_csv

# `predict --onnx` uses this module too, so what needs torch is imported inside `predict_paths`.
PRINTED_COLUMNS = 6


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Predict new inputs by a run; return 1 if some of them have no prediction, else 0."""
    options = parse_arguments(args)
    header, rows, missing = predict_paths(options.paths, options.run, module_class, data_class)
    for name in missing:
        print(f"error: {name} has no prediction", file=sys.stderr)
    show(header, rows, options.csv)
    return 1 if missing else 0


def predict_paths(
    paths: list[Path], run: str | None, module_class: type, data_class: type | None
) -> tuple[list[str], list[list[Any]], list[str]]:
    """Predict files or folders by a run; return header and rows of a table, and the names of inputs without a row."""
    from .. import contract
    from ..cli import classes
    from ..cli.run_cli import RunCLI
    from ..reports import predictions

    found = runs.find(runs.default_root(), run and run_name(run), finished=True)
    module_class, data_class = classes.of_file(found.config_file, (module_class, data_class))
    if not contract.Contract(module_class, data_class).has("predict_paths"):
        name = data_class.__name__ if data_class else "a project without a data module"
        text = f"{name} can't predict files yet. Give its __init__ an argument predict_paths, a list of paths or None."
        raise UserError(f"{text} Have predict_dataloader return a loader over these files.")
    if not any(path.exists() for path in paths):
        raise UserError(f"{paths[0]} does not exist, so it can't be predicted.")
    option = f"--data.predict_paths={json.dumps([str(path) for path in paths])}"
    args = ["predict", *run_options(str(found.folder)), *ONE_PROCESS, option, "--trainer.limit_predict_batches=1.0"]
    cli = RunCLI(module_class, data_class, args, execute=False)
    columns = predictions.compute(cli)
    # the data module may have replaced folders by the files in them
    names = [str(path) for path in contract.get("predict_paths", cli.datamodule) or paths]
    index = [int(i) for i in columns.get("index", range(len(names)))]
    missing = [name for i, name in enumerate(names) if i not in set(index)]
    header, rows = predictions.rows(cli, columns)
    if "file" not in header and len(rows) == len(index) <= len(names):
        header = ["file", *header]
        rows = [[names[i], *row] for i, row in zip(index, rows, strict=True)]
    return header, rows, missing


def parse_arguments(args: list[str]) -> argparse.Namespace:
    """Parse the command line after ``predict``."""
    parser = argparse.ArgumentParser(f"{program()} predict", description="Predict new inputs.", allow_abbrev=False)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of files")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model; torch is not needed")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV file, with all columns")
    return parser.parse_args(args)


def show(header: list[str], rows: list[list[Any]], csv_file: Path | None) -> None:
    """Write a CSV file; without one, print the table, without class probabilities and attached files."""
    if not rows:
        raise UserError("nothing was predicted.")
    if csv_file:
        write_csv(csv_file, header, rows)
        print(f"{len(rows)} predictions: {csv_file}")
        return
    is_short = [not name.startswith("p(") and not isinstance(rows[0][i], Attachment) for i, name in enumerate(header)]
    printed = [i for i, short in enumerate(is_short) if short][:PRINTED_COLUMNS]
    print(as_text([header[i] for i in printed], [[row[i] for i in printed] for row in rows]))
