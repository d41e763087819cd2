"""Tables: how a CSV file is read and turned into numbers, the same in training and in `predict`.

NumPy alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folders import find_files
from ..errors import UserError

SUFFIXES = (".csv", ".tsv", ".txt")
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?")  # in small letters
_DECIMAL_COMMA = re.compile(r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}([.,'\u2019\s]\d{3})+([.,]\d+)?")


@dataclass
class Table:
    """The texts of a CSV file, ``(N,)`` for each column; a missing value is an empty text."""

    file: Path
    columns: dict[str, np.ndarray]
    rows: np.ndarray  # the name of each row, such as table.csv:2, with the line that it ends on


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
        lines, cells = zip(*((reader.line_num, row) for row in reader if any(row)), strict=True)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num} can't be read: {error}.") from error
    except ValueError:
        lines, cells = (), ()  # the file is empty
    if len(cells) < 2 or len(cells[0]) < 2:
        raise UserError(f"{file} is no table: it must have a line of names, further lines, and at least two columns.")
    header = [name.strip().strip("'") or f"column {i}" for i, name in enumerate(cells[0], start=1)]
    if len(set(header)) < len(header):
        twice = min(name for name in header if header.count(name) > 1)
        raise UserError(f"{file} has more than one column with the name {twice}. Rename all but one.")
    for line, row in zip(lines, cells, strict=True):
        if len(row) != len(header):
            raise UserError(f"{file}, line {line} has {len(row)} values, but there are {len(header)} columns.")
    columns = zip(*cells[1:], strict=True)
    texts = {name: _clean(column, delimiter == ";") for name, column in zip(header, columns, strict=True)}
    return Table(file, texts, np.array([f"{file}:{line}" for line in lines[1:]], dtype=object))


def _clean(cells: Sequence[str], decimal_comma: bool) -> np.ndarray:
    """Return the texts of a column, ``(N,)``: a missing value is empty, and a number has a decimal point."""
    texts = ["" if (text := cell.strip()).lower() in MISSING else text for cell in cells]
    return np.array([_DECIMAL_COMMA.sub(r"\1.\2", text) for text in texts] if decimal_comma else texts, dtype=object)


def numbers(texts: np.ndarray) -> np.ndarray:
    """Turn texts without words into numbers, ``(N,)`` float64; a missing or infinite one is NaN."""
    values = np.where(texts == "", "nan", texts).astype(float)
    return np.where(np.abs(values) < 1e38, values, np.nan)


def words(texts: np.ndarray) -> np.ndarray:
    """Return the places of the texts that are no numbers, ``(M,)`` int64."""

    def is_word(text: str) -> bool:
        try:
            float(text or "nan")
        except ValueError:
            return True
        return False

    return np.flatnonzero([is_word(text) for text in texts])


def first_word(table: Table, name: str) -> str:
    """Tell of the first value of a column that is no number; empty where all are numbers."""
    for i in words(table.columns[name])[:1]:
        text = str(table.columns[name][i])
        thousands = " Thousands separators are not read: remove them." if _THOUSANDS.fullmatch(text) else ""
        return f"{table.rows[i]} has {text[:40]!r}, which is no number.{thousands}"
    return ""


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
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{table.file} lacks columns that the model was trained with: {listed(missing)}.")
    encoded = np.empty((len(table.rows), len(columns)), np.float32)
    for i, (name, known) in enumerate(columns.items()):
        texts = table.columns[name]
        if "words" in known:
            positions = {word: position for position, word in enumerate(known["words"], start=1)}
            encoded[:, i] = [positions.get(text, 0) for text in texts]
            if tell and (unknown := sorted(set(texts) - positions.keys() - {""})):
                text = f"note: {table.file}: the model knows no {name} {listed(unknown)}, and takes it as unknown."
                print(text, file=sys.stderr)
        elif word := first_word(table, name):
            raise UserError(f"the column {name} must have numbers alone. {word}")
        else:
            encoded[:, i] = numbers(texts)
    return encoded


def listed(names: Sequence[str]) -> str:
    """Name the first five."""
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new tables for an exported model, whose ``facts`` have the columns that it was trained with.

    Yields:
        A name for each row, such as ``table.csv:2``, with its encoded columns, ``(C,)`` float32, by the input's name.

    Raises:
        UserError: There are no tables, or the model takes something else.
    """
    if "columns" not in facts:
        raise UserError(f"the model takes {facts['inputs']}, and no rows of a table.")
    for file in find_files(paths, SUFFIXES):
        table = read_table(file)
        for name, row in zip(table.rows, encode(table, facts["columns"], tell=True), strict=True):
            yield name, {facts["inputs"][0]["name"]: row}
