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
from ..data.numbers import is_word, looks_like_a_number, num_odd, number_notations
from ..errors import UserError

SUFFIXES = (".csv", ".tsv", ".txt")
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?")  # in small letters
_INFINITE = 1e38  # numbers beyond are missing values


@dataclass
class Table:
    """The cells of a CSV file as texts, ``(N,)`` for each column; a missing value is an empty text."""

    file: Path
    columns: dict[str, np.ndarray]
    row_names: np.ndarray  # such as table.csv:2, with the line on which the row ends
    notations: dict[str, dict[str, str]]  # for each column, how Python writes cells that are numbers
    decimal: str  # the decimal mark of the numbers; "" if they do not show it

    def plain(self, name: str) -> np.ndarray:
        """Return the cells of a column, ``(N,)``, with numbers as Python writes them."""
        cells = self.columns[name]
        notation = self.notations[name]
        return np.array([notation.get(cell, cell) for cell in cells], dtype=object) if notation else cells


def read_table(file: Path, decimal: str = "") -> Table:
    """Read a CSV file, whose first line has the names of the columns.

    Columns are separated by commas, semicolons, tabs or bars; the text is UTF-8, UTF-16 or Latin-1. A missing value
    becomes an empty text.

    Args:
        file: The file.
        decimal: The decimal mark, "." or ",", where the file does not show it.

    Raises:
        UserError: It is not a file, or not a table.
    """
    if not file.is_file():
        raise UserError(f"{file} is not a file. Give the path of a CSV file, such as --data.root table.csv.")
    text = _decode(file.read_bytes())
    first_line = io.StringIO(text.lstrip(), newline=None).readline()
    delimiter = max(",;\t|", key=re.sub(r'"[^"]*"', "", first_line).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    line = 0
    try:
        for cells in reader:
            if any("\n" in cell and _swallows(cell, delimiter, len(cells)) for cell in cells):
                raise csv.Error("a quote that begins there ends in another row")
            line = reader.line_num
            if any(cells):
                rows.append((line, cells))
    except csv.Error as error:
        raise UserError(f"{file}, line {line + 1} can't be read: {error}. Write a quote in a cell twice.") from error
    if len(rows) < 2 or len(rows[0][1]) < 2:
        raise UserError(f"{file} is not a table: it needs a line of names, further lines, and at least two columns.")
    header = [name.strip().strip("'") or f"column {i}" for i, name in enumerate(rows[0][1], start=1)]
    if len(set(header)) < len(header):
        repeated = min(name for name in header if header.count(name) > 1)
        raise UserError(f"{file} has more than one column with the name {repeated}. Rename all but one.")
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(f"{file}, line {line} has {len(cells)} values, but there are {len(header)} columns.")
    texts = [[cell.strip() for cell in column] for column in zip(*(cells for _, cells in rows[1:]), strict=True)]
    texts = [["" if text.lower() in MISSING else text for text in column] for column in texts]
    notations, mark = number_notations(texts, delimiter, decimal)
    columns = {name: np.array(column, dtype=object) for name, column in zip(header, texts, strict=True)}
    row_names = np.array([f"{file}:{line}" for line, _ in rows[1:]], dtype=object)
    return Table(file, columns, row_names, dict(zip(header, notations, strict=True)), mark)


def _swallows(cell: str, delimiter: str, num_cells: int) -> bool:
    """Return whether a cell with line ends has whole rows in it, by their number of delimiters."""
    first, *inner, last = (line.count(delimiter) for line in cell.split("\n"))
    is_likely = bool(inner) or num_cells > 3
    return is_likely and first + last == num_cells - 1 and set(inner) <= {num_cells - 1}


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # Latin-1 as Windows writes it


def word_positions(texts: np.ndarray) -> np.ndarray:
    """Return the positions of the texts that are not numbers, ``(M,)`` int64."""
    return np.flatnonzero([is_word(text) for text in texts])


def column_numbers(table: Table, name: str) -> np.ndarray | None:
    """Return the numbers of a column, ``(N,)`` float64, or None for one of words.

    A missing or infinite number is NaN, and so is a word among at least four times as many numbers; the most frequent
    word does not count beside different numbers: it marks missing values.

    Raises:
        UserError: Most cells look like numbers, but can't be read as such.
    """
    texts = table.plain(name)
    positions = word_positions(texts)
    words = texts[positions]
    few = np.count_nonzero(texts != "") / 5
    unclear = [text for text in words if looks_like_a_number(text)]
    if unclear and len(positions) - len(unclear) <= few:
        raise UserError(
            f"the column {name} of {table.file} has numbers that may be read in two ways, such as {unclear[0]!r}. Write"
            f" them with a decimal point and no separator or unit, or leave it out: --data.ignore '[{name}]'."
        )
    differ = len({*texts} - {*words, ""}) > 1
    if len(positions) > few and not (differ and 4 * num_odd(words) <= np.count_nonzero(texts != "") - len(words)):
        return None
    numbers = np.where(texts == "", "nan", texts)
    numbers[positions] = "nan"
    values = numbers.astype(float)
    return np.where(np.abs(values) < _INFINITE, values, np.nan)


def describe_first_word(table: Table, name: str) -> str:
    """Describe the first value of a column that is not a number; return "" where all are numbers."""
    positions = word_positions(table.plain(name))
    if not len(positions):
        return ""
    text = str(table.columns[name][positions[0]])
    return f"{table.row_names[positions[0]]} has {text[:40]!r}, which is not a number."


def encode_table(table: Table, columns: Mapping[str, Any], print_unknown: bool = False) -> np.ndarray:
    """Turn the columns that a model knows into ``(N, C)`` float32; other columns are left out.

    A missing number is NaN. A word is its position in ``words``, from 1; an unknown word is 0.

    Args:
        table: The table.
        columns: What the model knows of each column: ``words``, or ``mean`` and ``std`` of numbers.
        print_unknown: Print the words that the model does not know.

    Raises:
        UserError: A column is missing, or has words instead of numbers.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise UserError(f"{table.file} lacks columns that the model was trained with: {first_names(missing)}.")
    encoded = np.empty((len(table.row_names), len(columns)), np.float32)
    for i, (name, known) in enumerate(columns.items()):
        if "words" in known:
            texts = table.columns[name]
            positions = {word: position for position, word in enumerate(known["words"], start=1)}
            encoded[:, i] = [positions.get(text, 0) for text in texts]
            unknown = sorted(set(texts) - positions.keys() - {""})
            if unknown and print_unknown:
                print_note(f"{table.file}: the model does not know {name} {first_names(unknown)}.")
            continue
        numbers = column_numbers(table, name)
        word = describe_first_word(table, name) if numbers is None or print_unknown else ""
        if numbers is None:
            raise UserError(f"the column {name} must have numbers alone. {word}")
        if word:
            print_note(f"words among the numbers of {name} are missing values. {word}")
        encoded[:, i] = numbers
    return encoded


def first_names(names: Sequence[str]) -> str:
    """Write the first five names, which a request may have made long."""
    return ", ".join(name[:80] for name in names[:5]) + (" …" if len(names) > 5 else "")


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Yield a name for each row of new tables, and its columns, ``(C,)`` float32, by the name of the model's input.

    Raises:
        UserError: There are no tables, or the facts of the exported model have no columns.
    """
    if "columns" not in facts:
        raise UserError(f"the model's inputs are {facts['inputs']}; they must be the rows of a table.")
    for file in chain(*find_files(paths, SUFFIXES).values()):
        table = read_table(file, facts.get("decimal", ""))
        encoded = encode_table(table, facts["columns"], print_unknown=True)
        for name, row in zip(table.row_names, encoded, strict=True):
            yield name, {facts["inputs"][0]["name"]: row}
