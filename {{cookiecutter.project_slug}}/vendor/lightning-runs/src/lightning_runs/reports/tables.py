"""Tables as text and as CSV files, without torch."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_whole


@dataclass(frozen=True)
class Attachment:
    """A cell of a table with a file of its own; `write_csv` writes the file into a folder beside the table.

    Args:
        name: The file's name, such as ``cat.png``; a second file of this name in a table gets a number.
        content: The file's bytes.
    """

    name: str
    content: bytes = field(repr=False)


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


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file completely, or leave the earlier one. `escape_formula` is applied to every cell.

    The file of an `Attachment` goes into the folder ``NAME_files`` beside the table ``NAME.csv``, and the cell holds
    its path. Files of the earlier table that the new one lacks are removed; other files in the folder stay.

    Raises:
        UserError: A file can't be written.
    """
    folder = file.with_name(f"{file.stem}_files")
    earlier = _attached_names(file, folder)
    names: set[str] = set()
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(escape_formula(name) for name in header)
    try:
        for row in rows:
            cells = [_attach(cell, folder, names) if isinstance(cell, Attachment) else cell for cell in row]
            writer.writerow(escape_formula(cell) for cell in cells)
        write_whole(file, stream.getvalue())
        for name in earlier - names:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file} can't be written: {error.strerror}.") from error


def _attach(cell: Attachment, folder: Path, names: set[str]) -> str:
    """Write a cell's file under a name that is not in ``names``, add the name, and return the path for the table."""
    path = Path(cell.name)
    numbered = (f"{path.stem}_{number}{path.suffix}" for number in count(1))
    name = next(name for name in chain([path.as_posix()], numbered) if name not in names)
    names.add(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, cell.content)
    return f"{folder.name}/{name}"


def _attached_names(file: Path, folder: Path) -> set[str]:
    """Return the names of the files in a table's folder that its cells refer to."""
    if not (file.is_file() and folder.is_dir()):
        return set()
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        try:
            cells = [Path(cell) for row in csv.reader(stream) for cell in row]
        except csv.Error:  # the file is not a table
            return set()
    return {cell.name for cell in cells if cell.parent == Path(folder.name) and (folder / cell.name).is_file()}


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
