"""Columns of a table: which are learned from, and what the training rows tell of them."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from .reading import Table, describe_first_word, first_names, parse_numbers, word_positions

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d{2}|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4})"
    r"([T ,].*|:\d{2}(\.\d+)?)?"
)


def check_column(table: Table, option: str, name: str | None) -> None:
    """Refuse the column that an option such as ``data.target`` names, if the table has no such column."""
    if name not in table.columns:
        near = difflib.get_close_matches(str(name), table.columns, n=5) or [*table.columns][:12]
        raise UserError(
            f"{option} is {name or 'not given'}; choose a column of {table.file} with --{option}, such as"
            f" {', '.join(near)}."
        )


def is_class(table: Table, target: str, kind: str | None) -> bool:
    """Return whether the target is a class. Without a kind, words are classes, and so are two different numbers.

    Raises:
        UserError: The target can't be learned, or not as this kind.
    """
    count = len(set(table.columns[target]))
    word = describe_first_word(table, target)
    if count < 2:
        raise UserError(f"data.target is {target}, which has {count} value in {table.file}: nothing can be learned.")
    if word and kind == "number":
        raise UserError(f"data.kind is number, but {target} has words. Leave out --data.kind, or replace them. {word}")
    classes = kind == "class" or (kind is None and (bool(word) or count == 2))
    if classes and count > max(2, len(table.row_names) // 2):
        advice = f"make all values numbers. {word}" if word else "use --data.kind number."
        raise UserError(
            f"data.target is {target}, which has {count} different values in {len(table.row_names)} rows: these are not"
            f" classes. Choose another --data.target, or {advice}"
        )
    return classes


def describe_columns(table: Table, names: Sequence[str], rows: np.ndarray) -> tuple[dict[str, Any], list[str]]:
    """Describe columns by the training rows alone.

    A word counts if two rows have it: from the others, the model learns what an unknown word means.

    Args:
        table: The table.
        names: The columns.
        rows: Indices of the training rows, ``(N,)`` int64.

    Returns:
        For each column ``{"words": [...]}``, or ``mean``, ``std`` and ``missing``, whether values are missing; and
        notes for the user.

    Raises:
        UserError: A column has dates, or there is nothing to learn from.
    """
    known: dict[str, Any] = {}
    left_out: list[str] = []
    mixed: list[str] = []
    for name in names:
        cells = table.columns[name]
        words = cells[word_positions(cells)]
        if len(words):
            if all(not cell or _DATE.fullmatch(cell) for cell in cells):
                raise UserError(
                    f"the column {name} has dates, such as {words[0]}, which are not supported. Leave it out with"
                    f" --data.ignore '[{name}]', or write it as numbers."
                )
            num_numbers = int((cells != "").sum()) - len(words)
            if len(words) <= num_numbers / 4:
                mixed.append(f"{name} ({num_numbers} numbers and {first_names(sorted(set(words)))})")
        num_values, column = _describe_words(cells[rows]) if len(words) else _describe_numbers(cells[rows])
        if num_values < 2:
            left_out.append(f"{name} (it has one value)")
        elif "words" in column and not any(column["words"]):  # a missing value is the word ""
            left_out.append(f"{name} (no word occurs twice)")
        else:
            known[name] = column
    if not known:
        reasons = ", ".join(left_out) or "there is none beside the target"
        raise UserError(f"{table.file} has no column to learn from: {reasons}.")
    notes = []
    if left_out:
        notes.append(f"{table.file.name}: columns without information are left out: {first_names(left_out)}.")
    if mixed:
        notes.append(
            f"{table.file.name}: columns of numbers with few words are read as words: {first_names(mixed)}. Leave such"
            " cells empty to read numbers."
        )
    return known, notes


def _describe_words(cells: np.ndarray) -> tuple[int, dict[str, Any]]:
    """Return the number of different words, and the description of the column."""
    counts = Counter(cells)
    return len(counts), {"words": sorted(word for word, count in counts.items() if count > 1)}


def _describe_numbers(cells: np.ndarray) -> tuple[int, dict[str, Any]]:
    """Return the number of different numbers, and the description of the column."""
    numbers = parse_numbers(cells)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0, {}
    known = {"mean": float(numbers.mean()), "std": float(numbers.std()), "missing": len(numbers) < len(cells)}
    return len(np.unique(numbers)), known
