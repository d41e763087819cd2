"""Tables: CSV files are read and turned into numbers, the same in training and in `predict`.

NumPy alone: `predict` with an ONNX file works without torch.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folders import find_files, print_note
from ..errors import UserError

SUFFIXES = (".csv", ".tsv", ".txt")
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?")  # in small letters
_DECIMAL_COMMA = re.compile(r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}([.,'\u2019\s]\d{3})+([.,]\d+)?")
_INFINITE = 1e38  # numbers beyond are missing values


@dataclass
class Table:
    """The cells of a CSV file as texts, ``(N,)`` for each column; a missing value is an empty text."""

    file: Path
    columns: dict[str, np.ndarray]
    row_names: np.ndarray  # such as table.csv:2, with the line on which the row ends


def read_table(file: Path) -> Table:
    """Read a CSV file, whose first line has the names of the columns.

    Columns are separated by commas, semicolons, tabs or bars; the text is UTF-8, UTF-16 or Latin-1.

    Raises:
        UserError: It is not a file, or not a table.
    """
    if not file.is_file():
        raise UserError(f"{file} is not a file. Give the path of a CSV file, such as --data.root table.csv.")
    text = _decode(file.read_bytes())
    first_line = text.lstrip().splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t|", key=re.sub(r'"[^"]*"', "", first_line).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num} can't be read: {error}.") from error
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise UserError(f"{file} is not a table: it needs a line of names, further lines, and at least two columns.")
    header = [name.strip().strip("'") or f"column {i}" for i, name in enumerate(rows[0][1], start=1)]
    if len(set(header)) < len(header):
        repeated = min(name for name in header if header.count(name) > 1)
        raise UserError(f"{file} has more than one column with the name {repeated}. Rename all but one.")
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(f"{file}, line {line} has {len(cells)} values, but there are {len(header)} columns.")
    columns = zip(*(cells for _, cells in rows[1:]), strict=True)
    cleaned = [_clean_cells(column, decimal_comma=delimiter == ";") for column in columns]
    row_names = np.array([f"{file}:{line}" for line, _ in rows[1:]], dtype=object)
    return Table(file, dict(zip(header, cleaned, strict=True)), row_names)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # Latin-1 as Windows writes it


def _clean_cells(cells: Sequence[str], decimal_comma: bool) -> np.ndarray:
    """Return the texts of a column, ``(N,)``: a missing value is empty, and a number has a decimal point."""
    texts = [cell.strip() for cell in cells]
    texts = ["" if text.lower() in MISSING else text for text in texts]
    if decimal_comma:
        texts = [_DECIMAL_COMMA.sub(r"\1.\2", text) for text in texts]
    return np.array(texts, dtype=object)


def parse_numbers(texts: np.ndarray) -> np.ndarray:
    """Turn texts without words into numbers, ``(N,)`` float64; a missing or infinite number is NaN."""
    values = np.where(texts == "", "nan", texts).astype(float)
    return np.where(np.abs(values) < _INFINITE, values, np.nan)


def word_positions(texts: np.ndarray) -> np.ndarray:
    """Return the positions of the texts that are not numbers, ``(M,)`` int64."""
    return np.flatnonzero([_is_word(text) for text in texts])


def _is_word(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return True
    return False


def describe_first_word(table: Table, name: str) -> str:
    """Describe the first value of a column that is not a number; return "" where all are numbers."""
    positions = word_positions(table.columns[name])
    if not len(positions):
        return ""
    text = str(table.columns[name][positions[0]])
    hint = " Thousands separators are not read: remove them." if _THOUSANDS.fullmatch(text) else ""
    return f"{table.row_names[positions[0]]} has {text[:40]!r}, which is not a number.{hint}"


def encode_table(table: Table, columns: Mapping[str, Any], print_unknown: bool = False) -> np.ndarray:
    """Turn the columns that a model knows into ``(N, C)`` float32; other columns are left out.

    A missing number is NaN. A word is its position in ``words``, from 1; an unknown word is 0.

    Args:
        table: The table.
        columns: What the model knows of each column: ``words``, or ``mean`` and ``std`` of numbers.
        print_unknown: Print the words that the model does not know.

    Raises:
        UserError: A column is missing, or has a word instead of a number.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{table.file} lacks columns that the model was trained with: {first_names(missing)}.")
    encoded = np.empty((len(table.row_names), len(columns)), np.float32)
    for i, (name, known) in enumerate(columns.items()):
        texts = table.columns[name]
        if "words" in known:
            positions = {word: position for position, word in enumerate(known["words"], start=1)}
            encoded[:, i] = [positions.get(text, 0) for text in texts]
            unknown = sorted(set(texts) - positions.keys() - {""})
            if unknown and print_unknown:
                print_note(f"{table.file}: the model does not know {name} {first_names(unknown)}.")
        elif len(word_positions(texts)):
            raise UserError(f"the column {name} must have numbers alone. {describe_first_word(table, name)}")
        else:
            encoded[:, i] = parse_numbers(texts)
    return encoded


def first_names(names: Sequence[str]) -> str:
    """Write the first five names."""
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Yield a name for each row of new tables, and its columns, ``(C,)`` float32, by the name of the model's input.

    Raises:
        UserError: There are no tables, or the facts of the exported model have no columns.
    """
    if "columns" not in facts:
        raise UserError(f"the model's inputs are {facts['inputs']}; they must be the rows of a table.")
    for file in chain(*find_files(paths, SUFFIXES).values()):
        table = read_table(file)
        encoded = encode_table(table, facts["columns"], print_unknown=True)
        for name, row in zip(table.row_names, encoded, strict=True):
            yield name, {facts["inputs"][0]["name"]: row}
