"""``predict PATH …``: predict new inputs, by a run or, without torch, by an exported ONNX file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import predictions
from ..errors import UserError, reason, require
from . import ONE_PROCESS, PROGRAM, as_text, run_options


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Predict new inputs by a run: its data module reads them, and the Trainer predicts.

    Returns:
        The exit code: 0, or 1 if some inputs have no prediction; the others are predicted all the same.
    """
    options = _parse(args)
    header, rows, without = of_paths(options.paths, options.run, module_class, data_class)
    for name in without:
        print(f"error: {name} has no prediction", file=sys.stderr)
    _show(header, rows, options.csv)
    return 1 if without else 0


def of_paths(
    paths: list[Path], run: str | None, module_class: type, data_class: type | None
) -> tuple[list[str], list[list[Any]], list[str]]:
    """Predict what is in files or folders by a run; return a table's header and rows, and the inputs without any.

    Raises:
        UserError: The data module can't be given paths.
    """
    from .. import contract
    from ..cli import RunCLI

    if not contract.Contract(module_class, data_class).has("predict_paths"):
        raise UserError(
            f"{data_class.__name__ if data_class else 'a project without a data module'} can't be given paths. Add to"
            " the data module's __init__ an argument predict_paths, a list of paths or None, and let predict_dataloader"
            " yield what is in them."
        )
    chosen = f"--data.predict_paths={json.dumps([str(path) for path in paths])}"
    given = ["predict", *run_options(run), *ONE_PROCESS, chosen, "--trainer.limit_predict_batches=1.0"]
    cli = RunCLI(module_class, data_class, given, execute=False)
    columns = predictions.compute(cli)
    # by now the data module may have put the files there that it has found in folders
    names = [str(path) for path in contract.get("predict_paths", cli.datamodule)]
    index = [int(i) for i in columns.get("index", range(len(names)))]
    without = [names[i] for i in sorted(set(range(len(names))).difference(index))]
    header, rows = predictions.rows(cli, columns)
    if "file" not in header and len(rows) == len(index) <= len(names):
        header, rows = ["file", *header], [[names[i], *row] for i, row in zip(index, rows, strict=True)]
    return header, rows, without


def main_onnx(
    args: list[str],
    read: Callable[..., Iterator[tuple[str, Any]]] | None,
    rows: Callable[..., tuple[list[str], list[list[Any]]]] | None = None,
) -> int:
    """Predict new inputs by an exported ONNX file, without torch.

    Args:
        args: The command line after ``predict``.
        read: Called with the paths and the facts of the model; yields a name for each input, and its arrays by the
            names of the model's inputs, without the batch dimension, or a text that says why it can't be read.
        rows: Called with the columns of one input and the facts; returns a header and a row. None is a plain table.

    Returns:
        The exit code: 0, or 1 if some inputs can't be read; the others are predicted all the same.

    Raises:
        UserError: The ONNX file can't be used, or nothing was predicted.
    """
    options = _parse(args)
    if read is None:
        raise UserError("predict --onnx needs a function read(paths, facts), which __main__.py gives to runtime.early.")
    session, facts = open_model(options.onnx)
    header, body, failed = ["file"], [], False
    for name, found in read(options.paths, facts):
        if isinstance(found, str):
            failed = True
            print(f"error: {name}: {found}", file=sys.stderr)
            continue
        try:
            results = session.run(None, {key: array[None] for key, array in found.items()})
        except Exception as error:  # such as onnxruntime's, if there is another input or another shape
            raise UserError(f"{options.onnx} can't take {name}: {reason(error)}") from error
        arrays = zip(session.get_outputs(), results, strict=True)
        columns = {"file": [name], **{output.name: result.tolist() for output, result in arrays}}
        header, found = rows(columns, facts) if rows else predictions.table(columns, facts.get("class_names"))
        body += found
    _show(header, body, options.csv)
    return 1 if failed else 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} predict",
        description="Predict what is in files or folders. (Without PATH, predict takes the test data.)",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder of files")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model; torch is not needed")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV file, with all columns")
    return parser.parse_args(args)


def open_model(file: Path, extra: str = "export") -> tuple[Any, dict[str, Any]]:
    """Open an exported model. What its facts call inputs is what the file itself declares."""
    require(extra, "onnxruntime")
    import onnxruntime

    if not file.is_file():
        raise UserError(f"{file} does not exist. Write it with: {PROGRAM} export")
    try:
        options = onnxruntime.SessionOptions()
        # else its threads spin while they wait, and take the cores from what reads and answers
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen classes of its own
        raise UserError(f"{file} can't be read as an ONNX model: {reason(error)}") from error
    try:
        facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
        facts["inputs"] = [
            {"name": i.name, "dtype": _DTYPES.get(i.type, i.type[7:-1]), "shape": i.shape} for i in session.get_inputs()
        ]
        columns = [output.shape[1:] for output in session.get_outputs() if output.name == "probabilities"]
        if "class_names" in facts and any(shape != [len(facts["class_names"])] for shape in columns):
            raise ValueError("another number of classes")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} lacks the facts of an exported file. Write it with: {PROGRAM} export") from error
    return session, facts


_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others have NumPy's names


def _show(header: list[str], rows: list[list[Any]], file: Path | None) -> None:
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
