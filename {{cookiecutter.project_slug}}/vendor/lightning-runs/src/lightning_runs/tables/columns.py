"""Columns of a table: which are learned from, and what the training rows tell of them."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.folders import print_note
from ..data.numbers import num_odd
from ..errors import UserError
from .reading import Table, column_numbers, describe_first_word, first_names, word_positions

_DATE = re.compile(
    r"([^\W\d]{2,9}[.,]* )?(\d{4}[-/.年]\d{1,2}[-/.月]\d{1,2}日?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{4}-[01]\d"
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
    r"|(?i:jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?|oct|nov|dec)(t?em|o)?(ber)?\.? \d+"
    r"|\d{1,2}(st|nd|rd|th|\.)?[-/ ]*[^\W\d]{3,9}\.?[-/, ]+(\d{2}|\d{4})"
    r"|[^\W\d]{3,9}\.?[-/ ]\d{1,2}(st|nd|rd|th)?,?[-/ ]\d{4})"
    r"([T ,].*)?"
)
_MEASURE = re.compile(r"\W*\d.*", re.DOTALL)  # such as 151 cm or <0.5
_NUMBERING = re.compile(r"(?i:(.*[\W_])?(id|index|idx|nr|no|row|uuid|guid|unnamed: \d+))|.*[a-z](Id|ID)")


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
    count = len(set(class_texts(table, target)))
    cells = table.plain(target)
    has_measures = count > 2 and is_typical(_MEASURE, cells[word_positions(cells)])  # two may be <=50K and >50K
    word = describe_first_word(table, target)
    if count < 2:
        raise UserError(f"data.target is {target}, which has {count} value in {table.file}: nothing can be learned.")
    if word and kind == "number":
        raise UserError(f"data.kind is number, but {target} has words. Leave out --data.kind, or replace them. {word}")
    if word and kind is None and (has_measures or column_numbers(table, target) is not None):
        raise UserError(f"{target} has words among numbers. {word} Correct it, or use --data.kind class.")
    classes = kind == "class" or (kind is None and (bool(word) or count == 2))
    if classes and count > max(2, len(table.row_names) // 2):
        advice = f"make all values numbers. {word}" if word else "use --data.kind number."
        raise UserError(
            f"data.target is {target}, which has {count} different values in {len(table.row_names)} rows: these are not"
            f" classes. Choose another --data.target, or {advice}"
        )
    return classes


def class_texts(table: Table, name: str) -> np.ndarray:
    """Return the class of each row, ``(N,)`` str; numbers of one value, such as 1 and 1.0, are one class."""
    cells = table.plain(name)
    if len(word_positions(cells)):
        return table.columns[name].astype(str)
    shortest = {float(cell): cell for cell in sorted(set(cells), key=len, reverse=True)}
    return np.array([shortest[float(cell)] for cell in cells])


def sorts_classes(numbers: np.ndarray, classes: np.ndarray) -> bool:
    """Return whether numbers ``(N,)`` count the rows, and the classes ``(N,)`` stand together in their order."""
    if len(np.unique(numbers)) < len(numbers) or not (numbers == numbers.round()).all():
        return False
    in_order = classes[np.argsort(numbers)]
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    expected_changes = len(classes) * (1 - (shares**2).sum())
    return 5 * np.count_nonzero(in_order[1:] != in_order[:-1]) <= expected_changes


def is_typical(pattern: re.Pattern[str], words: np.ndarray) -> bool:
    """Return whether half the words match a pattern, and four in five without the most frequent other word."""
    others = [word for word in words if not pattern.fullmatch(word)]
    return len(words) > 0 and max(len(others), 4 * num_odd(others)) <= len(words) - len(others)


def describe_columns(
    table: Table, names: Sequence[str], rows: np.ndarray, classes: np.ndarray | None
) -> dict[str, Any]:
    """Describe columns by the training rows alone, and print what is odd about them.

    A word counts if two rows have it: from the others, the model learns what an unknown word means.

    Args:
        table: The table.
        names: The columns.
        rows: Indices of the training rows, ``(N,)`` int64.
        classes: The class of each row, ``(N,)`` str; None where the target is a number.

    Returns:
        For each column ``{"words": [...]}``, or ``mean``, ``std`` and ``missing``, whether values are missing.

    Raises:
        UserError: A column has dates, or there is nothing to learn from.
    """
    known: dict[str, Any] = {}
    left_out: list[str] = []
    mixed: list[str] = []
    numbering: list[str] = []
    for name in names:
        cells = table.columns[name]
        words = cells[word_positions(table.plain(name))]
        numbers = column_numbers(table, name)
        if numbers is None and is_typical(_DATE, words):
            date = next(filter(_DATE.fullmatch, words))
            raise UserError(
                f"the column {name} has dates, such as {date}, which are not supported. Leave it out with"
                f" --data.ignore '[{name}]', or write it as numbers."
            )
        if len(words) and (numbers is not None or is_typical(_MEASURE, words)):
            kind = "words" if numbers is None else "missing values"
            counts = [f"{word}: {count}" for word, count in Counter(words).most_common()]
            mixed.append(f"{name} as {kind} ({first_names(counts)}). {describe_first_word(table, name)}")
        column = _described(cells[rows], None if numbers is None else numbers[rows])
        if isinstance(column, str):
            left_out.append(f"{name} ({column})")
            continue
        known[name] = column
        counts_rows = classes is not None and numbers is not None and sorts_classes(numbers, classes)
        if counts_rows or _NUMBERING.fullmatch(name):
            numbering.append(name)
    if not known:
        reasons = ", ".join(left_out) or "there is none beside the target"
        raise UserError(f"{table.file} has no column to learn from: {reasons}.")
    if left_out:
        print_note(f"{table.file.name}: these columns say nothing and are left out: {first_names(left_out)}.")
    if mixed:
        print_note(f"{table.file.name}: numbers with signs or words are read: {' '.join(mixed[:5])}")
    if numbering:
        print_note(
            f"{table.file.name}: {first_names(numbering)} looks like a row number. If the rows are in an order, it"
            f" gives the target away. Leave it out: --data.ignore '[{','.join(numbering)}]'."
        )
    return known


def _described(cells: np.ndarray, numbers: np.ndarray | None) -> dict[str, Any] | str:
    """Return the description of a column, of words without numbers, or why it has no information."""
    counts = Counter(cells)
    if numbers is None and len(counts) > 1:
        words = sorted(word for word, count in counts.items() if count > 1)
        return {"words": words} if any(words) else "no word occurs twice"  # a missing value is the word ""
    known = numbers[np.isfinite(numbers)] if numbers is not None else np.array([])
    if len(np.unique(known)) < 2:
        return "it has one value"
    return {"mean": float(known.mean()), "std": float(known.std()), "missing": len(known) < len(cells)}
