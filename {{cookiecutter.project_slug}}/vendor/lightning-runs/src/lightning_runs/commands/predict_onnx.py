"""``predict --onnx FILE PATH …``: predict new inputs by an exported model, without torch."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import UserError, brief, reason, require
from ..names import program
from ..reports.predictions import table
from .predict import parse_arguments, show

# The modules that read new inputs, by the kind in a model's facts: a model file never names code to import.
READERS = {"images": "images.reading", "rows": "tables.reading", "texts": "texts.reading", "masks": "masks.reading"}


def main(args: list[str]) -> int:
    """Predict new inputs by an exported ONNX file; return 1 if some of them can't be read, else 0."""
    options = parse_arguments(args)
    session, facts = open_model(options.onnx)
    if facts.get("kind") not in READERS:
        raise UserError(
            f"the facts of {options.onnx} have the kind {facts.get('kind')!r}, but predict reads {', '.join(READERS)}."
            " Set facts['kind'] of the module that exported() returns to one of these, and export again."
        )
    reader = import_module(f"...{READERS[facts['kind']]}", __name__)
    header: list[str] = []
    rows: list[list[Any]] = []
    unread = []
    for name, inputs in reader.read(options.paths, facts):
        if isinstance(inputs, str):
            unread.append(name)
            print(f"error: {name}: {inputs}", file=sys.stderr)
            continue
        try:
            outputs = session.run(None, {key: array[None] for key, array in inputs.items()})
        except Exception as error:  # onnxruntime's, for another input or another shape
            raise UserError(f"{options.onnx} can't take {name}: {reason(error)}") from error
        columns = {output.name: array.tolist() for output, array in zip(session.get_outputs(), outputs, strict=True)}
        arrange = getattr(reader, "rows", lambda columns, facts: table(columns, facts.get("class_names")))
        header, new_rows = arrange({"file": [name], **columns}, facts)
        rows += new_rows
    show(header, rows, options.csv)
    return 1 if unread else 0


def open_model(file: Path) -> tuple[Any, dict[str, Any]]:
    """Open an exported ONNX file; return onnxruntime's session, and the facts in the file."""
    require("export", "onnxruntime")
    import onnxruntime

    if not file.is_file():
        raise UserError(f"{file} does not exist. Write it with: {program()} export")
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
    except Exception as error:  # KeyError, if the file has no facts; onnxruntime has a dozen classes of its own
        raise UserError(f"{file} can't be used ({brief(error)}). Write it with: {program()} export") from error
    return session, facts
