"""Tables: how a CSV file is read and turned into numbers, the same in training and in `predict`.

NumPy alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .runtime.errors import UserError
from .runtime.folders import find

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".csv", ".tsv", ".txt")
MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"))  # in small letters


@dataclass
class Table:
    """The texts of a CSV file: by the name of the column, and the line of the file that each row ends on, from 1."""

    file: Path
    columns: dict[str, list[str]]  # a missing value is an empty text
    lines: list[int]
    comma: bool = False  # numbers may have a decimal comma

    @property
    def names(self) -> list[str]:
        """A name for each row, such as ``table.csv:2``."""
        return [f"{self.file}:{line}" for line in self.lines]

    def take(self, rows: Sequence[int]) -> Table:
        """Return some of the rows."""
        columns = {name: [texts[i] for i in rows] for name, texts in self.columns.items()}
        return Table(self.file, columns, [self.lines[i] for i in rows], self.comma)

    def numbers(self, name: str) -> list[float]:
        """Return a column as numbers; a missing or infinite value is NaN. Raises ValueError where it has words."""
        texts = self.columns[name]
        texts = [text.replace(",", ".") for text in texts] if self.comma else texts
        values = [float(text) if text else math.nan for text in texts]
        return [value if abs(value) < 1e38 else math.nan for value in values]


def read_table(file: Path) -> Table:
    """Read a CSV file, whose first line has the names of the columns.

    Columns are separated by commas, semicolons, tabs or bars; the text is UTF-8, UTF-16 or Latin-1.

    Raises:
        UserError: It is no file, or no table.
    """
    if not file.is_file():
        raise UserError(f"{file} is no file. Give the path of a CSV file, such as --data.root table.csv.")
    data = file.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")  # Latin-1 as Windows writes it
    first = re.sub(r'"[^"]*"', "", text.lstrip().splitlines()[0]) if text.strip() else ""
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num} can't be read: {error}.") from error
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise UserError(f"{file} is no table: it must have a line of names, further lines, and at least two columns.")
    header = [name.strip().strip("'") or f"column {i}" for i, name in enumerate(rows.pop(0)[1], start=1)]
    if twice := sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []:
        raise UserError(f"{file} has more than one column with the name {twice[0]}. Rename all but one.")
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(f"{file}, line {line} has {len(row)} values, but there are {len(header)} columns.")
    columns = zip(*(row for _, row in rows), strict=True)
    texts = {
        name: ["" if (text := cell.strip()).lower() in MISSING else text for cell in column]
        for name, column in zip(header, columns, strict=True)
    }
    return Table(file, texts, [line for line, _ in rows], comma=delimiter == ";")


def encode(table: Table, columns: Mapping[str, Any], tell: bool = False) -> np.ndarray:
    """Turn the columns that a model knows into numbers.

    Args:
        table: The table; columns that the model does not know are left out.
        columns: What is known of each: ``{"words": [...]}``, or mean and standard deviation of a column of numbers.
        tell: Print which words are not known.

    Returns:
        ``(N, C)`` float32: a number, NaN where it is missing; of words their positions from 1, and 0 for unknown ones.

    Raises:
        UserError: A column is missing, or has a word in the place of a number.
    """
    import numpy as np  # here, for it takes longer than most commands that need no table

    if missing := [name for name in columns if name not in table.columns]:
        names = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise UserError(f"{table.file} lacks columns that the model was trained with: {names}.")
    encoded = np.empty((len(table.lines), len(columns)), np.float32)
    for i, (name, known) in enumerate(columns.items()):
        if "words" in known:
            positions = {word: position for position, word in enumerate(known["words"], start=1)}
            encoded[:, i] = [positions.get(text, 0) for text in table.columns[name]]
            unknown = sorted(set(table.columns[name]) - positions.keys() - {""})
            if unknown and tell:
                words = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
                text = f"note: {table.file}: the model knows no {name} {words}, and takes it as unknown."
                print(text, file=sys.stderr)
        else:
            try:
                encoded[:, i] = table.numbers(name)
            except ValueError as error:
                text = f"{table.file}: the column {name} must have numbers alone: {error}."
                raise UserError(text) from error
    return encoded


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new tables for an exported model, whose ``facts`` have the columns that it was trained with.

    Yields:
        A name for each row, such as ``table.csv:2``, with its encoded columns, ``(C,)`` float32, by the input's name.

    Raises:
        UserError: There are no tables, or the model takes something else.
    """
    if "columns" not in facts:
        raise UserError(f"the model takes {facts['inputs']}, and no rows of a table.")
    for file in find(paths, SUFFIXES):
        table = read_table(file)
        for name, row in zip(table.names, encode(table, facts["columns"], tell=True), strict=True):
            yield name, {facts["inputs"][0]["name"]: row}
