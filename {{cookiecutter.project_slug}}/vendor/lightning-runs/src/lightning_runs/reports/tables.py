"""Tables as text, as JSON and as CSV files, without torch."""

import base64
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_whole

GROUPS = {"p": "probabilities", "share": "shares"}  # the columns p(cat), p(dog) … in JSON


@dataclass(frozen=True)
class Attachment:
    """A cell of a table with a file of its own; `write_csv` writes the file into a folder beside the table."""

    name: str  # of the file, such as cat.png; a second file of this name in a table gets a number
    content: bytes = field(repr=False)


def table(columns: dict[str, list[Any]], class_names: Sequence[str] | None) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of columns, which have an entry for each item.

    Entries that are lists of numbers of one length become a column for each position; other lists are kept whole. With
    ``class_names``, ``probabilities`` becomes the label, its probability, and ``p(NAME)`` of each class.
    """
    cells: dict[str, list[Any]] = {}
    for name, column in columns.items():
        lengths = {len(entry) if isinstance(entry, list) else -1 for entry in column}
        length = lengths.pop() if len(lengths) == 1 else -1
        is_flat = length > 0 and not any(isinstance(value, list | dict) for value in column[0])
        is_named = name == "probabilities" and is_flat and length == len(class_names or ())
        if class_names and is_named and all(abs(sum(entry) - 1) < 1e-3 for entry in column):  # one class of several
            best = [max(range(length), key=entry.__getitem__) for entry in column]
            cells["label"] = [class_names[i] for i in best]
            cells["probability"] = [round(entry[i], 6) for i, entry in zip(best, column, strict=True)]
            for i, label in enumerate(class_names):
                cells[f"p({label})"] = [round(entry[i], 6) for entry in column]
        elif is_flat:
            for i in range(length):
                cells[name if length == 1 else f"{name}_{i}"] = [entry[i] for entry in column]
        else:
            cells[name] = column
    return list(cells), [list(row) for row in zip(*cells.values(), strict=True)]


def as_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in columns: numbers on the right, with four decimals, and a dash for None."""
    lines = [[str(name) for name in header], *([_cell_text(cell) for cell in row] for row in rows)]
    columns = []
    for i in range(len(header)):
        width = max(len(line[i]) for line in lines)
        has_numbers = any(isinstance(row[i], int | float) for row in rows)
        columns.append([line[i].rjust(width) if has_numbers else line[i].ljust(width) for line in lines])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _cell_text(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)


def as_json(header: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row for JSON, with its cells ``p(NAME)`` in ``probabilities`` and ``share(NAME)`` in ``shares``."""
    values: dict[str, Any] = {}
    for name, cell in zip(header, row, strict=True):
        group = re.fullmatch(r"(p|share)\((.*)\)", name, re.DOTALL)
        if group:
            values.setdefault(GROUPS[group[1]], {})[group[2]] = json_value(cell)
        else:
            values[name] = json_value(cell)
    return values


def json_value(value: Any) -> Any:
    """Return a value of JSON: a file in Base64, and null for a number that is not finite."""
    if isinstance(value, Attachment):
        return base64.b64encode(value.content).decode()
    if isinstance(value, dict):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_of_json(text: bytes, columns: Iterable[str]) -> bytes:
    """Return the CSV file with the ``inputs`` of a JSON object: rows by names of columns, or texts for one column."""
    names = list(columns)
    try:
        inputs = json.loads(text)["inputs"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError('the body is not a JSON object such as {"inputs": [...]}.') from error
    if not isinstance(inputs, list) or not inputs:
        raise UserError("inputs must be a list of at least one input.")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow([max(names, key=len) + "#", *names])  # a table has at least two columns
    for i, value in enumerate(inputs):
        row = value if isinstance(value, dict) else {names[0]: value}
        missing = [name for name in names if name not in row]
        if missing:
            raise UserError(f"input {i} lacks the columns {', '.join(missing[:5])}. A missing value is null.")
        cells = [row[name] for name in names]
        if any(isinstance(cell, dict | list | bool) for cell in cells):
            raise UserError(f"input {i} has a value that is not a number, a text or null.")
        if not any(cell is not None and str(cell).strip() for cell in cells):
            raise UserError(f"input {i} is empty.")
        writer.writerow([i, *cells])
    return stream.getvalue().encode()


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file completely, or leave the earlier one. `escape_formula` is applied to every cell.

    The file of an `Attachment` goes into the folder ``NAME_files`` beside the table ``NAME.csv``, and the cell holds
    its path. Other files in the folder stay.
    """
    folder = file.with_name(f"{file.stem}_files")
    names: set[str] = set()
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(escape_formula(name) for name in header)
    for row in rows:
        cells = [_attach(cell, folder, names) if isinstance(cell, Attachment) else cell for cell in row]
        writer.writerow(escape_formula(cell) for cell in cells)
    write_whole(file, stream.getvalue())


def _attach(cell: Attachment, folder: Path, names: set[str]) -> str:
    """Write a cell's file under a name that is not in ``names``, add the name, and return the path for the table."""
    path = Path(cell.name)
    name = cell.name
    number = len(names)
    while name in names:
        name = f"{path.stem}_{number}{path.suffix}"
        number += 1
    names.add(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, cell.content)
    return f"{folder.name}/{name}"


def escape_formula(cell: Any) -> Any:
    """Prefix ' to a text that a spreadsheet would run as a formula, and write lists as JSON; return other cells."""
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell
