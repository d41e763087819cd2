"""``predict --onnx FILE PATH …``: predict new inputs by an exported model, without torch."""

import json
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, brief, reason, require
from ..names import program
from ..reports.tables import table
from .predict import parse_arguments, show

# The modules that read new inputs, by the kind in a model's facts: a model file never names code to import.
READERS = {"images": "images.reading", "rows": "tables.reading", "texts": "texts.reading", "masks": "masks.reading"}
BATCH_SIZE = 64  # inputs that are computed at once
Input = tuple[str, dict[str, np.ndarray]]  # its name, and the arrays that the model takes
Row = list[Any]


class OnnxModel:
    """A model that `export` wrote, which reads and predicts the inputs in files."""

    def __init__(self, file: Path) -> None:
        require("export", "onnxruntime")
        import onnxruntime

        self.file = file
        if not file.is_file():
            raise UserError(f"{file} does not exist. Export the run first: {program()} export [RUN]")
        try:
            options = onnxruntime.SessionOptions()
            # else its idle threads spin, and take the cores from what reads inputs and answers requests
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            self.facts = json.loads(self.session.get_modelmeta().custom_metadata_map["facts"])
        except Exception as error:  # KeyError, if the file has no facts; onnxruntime has a dozen classes of its own
            raise UserError(f"{file} can't be used ({brief(error)}). Write it with: {program()} export") from error
        self.reader = import_module(f"...{READERS.get(self.facts.get('kind'), 'data.arrays')}", __name__)

    def rows(self, paths: Sequence[Path], run_options: Any = None) -> Iterator[tuple[str, list[str], Row | str]]:
        """Yield the name of each input, and header and row of its prediction, or the reason why it can't be read.

        When ``terminate`` of onnxruntime's `RunOptions` is set, the prediction ends.
        """
        batch: list[Input] = []
        for name, inputs in self.reader.read(paths, self.facts):
            if run_options is not None and run_options.terminate:
                return
            if isinstance(inputs, str):
                yield name, [], inputs
                continue
            batch.append((name, inputs))
            if len(batch) == BATCH_SIZE:
                yield from self._predict(batch, run_options)
                batch = []
        if batch:
            yield from self._predict(batch, run_options)

    def _predict(self, batch: list[Input], run_options: Any) -> Iterator[tuple[str, list[str], Row]]:
        names = [name for name, _ in batch]
        try:
            arrays = {key: np.stack([inputs[key] for _, inputs in batch]) for key in batch[0][1]}
            outputs = self.session.run(None, arrays, run_options)
        except Exception as error:  # onnxruntime's, for another input or another shape
            raise UserError(f"{self.file} can't take {names[0]}: {reason(error)}") from error
        computed = zip(self.session.get_outputs(), outputs, strict=True)
        columns = {output.name: array.tolist() for output, array in computed}
        arrange = getattr(self.reader, "rows", lambda columns, facts: table(columns, facts.get("class_names")))
        header, rows = arrange({"file": names, **columns}, self.facts)
        for name, row in zip(names, rows, strict=True):
            yield name, header, row


def main(args: list[str]) -> int:
    """Predict new inputs by an exported ONNX file; return 1 if some of them can't be read, else 0."""
    options = parse_arguments(args)
    header: list[str] = []
    rows: list[Row] = []
    unread = []
    for name, header_of_row, row in OnnxModel(options.onnx).rows(options.paths):
        if isinstance(row, str):
            unread.append(name)
            print(f"error: {name}: {row}", file=sys.stderr)
        else:
            header = header_of_row
            rows.append(row)
    show(header, rows, options.csv)
    return 1 if unread else 0
