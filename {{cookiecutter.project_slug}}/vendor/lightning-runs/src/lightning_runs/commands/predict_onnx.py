"""``predict --onnx FILE PATH …``: predict new inputs by an exported model, without torch."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import UserError, reason, require
from ..names import program
from ..reports import predictions
from .predict import parse, show

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the others have NumPy's names


# What reads new inputs without torch, by the kind that an exported model's facts name: never a path out of a file.
READERS = {"images": "images.reading", "rows": "tables.reading", "texts": "texts.reading", "masks": "masks.reading"}


def main(args: list[str]) -> int:
    """Predict new inputs by an exported ONNX file, without torch.

    Returns:
        The exit code: 0, or 1 if some inputs can't be read; the others are predicted all the same.

    Raises:
        UserError: The ONNX file can't be used, or nothing was predicted.
    """
    options = parse(args)
    session, facts = open_model(options.onnx)
    if facts.get("kind") not in READERS:
        raise UserError(
            f"{options.onnx} is of a model whose inputs no reader knows. A reader is there for {', '.join(READERS)};"
            " exported() names one of them as facts['kind']."
        )
    reader = import_module(f"...{READERS[facts['kind']]}", __name__)
    rows = getattr(reader, "rows", None)
    header, body, failed = ["file"], [], False
    for name, found in reader.read(options.paths, facts):
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
        raise UserError(f"{file} does not exist. Write it with: {program()} export")
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
        raise UserError(f"{file} lacks the facts of an exported file. Write it with: {program()} export") from error
    return session, facts
