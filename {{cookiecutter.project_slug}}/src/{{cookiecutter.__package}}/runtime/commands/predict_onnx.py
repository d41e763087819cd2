"""``predict --onnx FILE PATH …``: predict new inputs by an exported model, without torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import predictions
from ..errors import UserError, reason, require
from . import PROGRAM
from .predict import parse, show

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others have NumPy's names


def main(
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
    options = parse(args)
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
    show(header, body, options.csv)
    return 1 if failed else 0


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
