"""The tables that are known (`SOURCES`), and what is found out about the columns of one."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from lightning_runs.errors import UserError
from lightning_runs.tables.reading import Table, first_word, listed, numbers, words

_PENGUINS = (
    "344 penguins of the Palmer Archipelago, by K. B. Gorman, T. D. Williams and W. R. Fraser,"
    " https://doi.org/10.1371/journal.pone.0090081, from palmerpenguins by A. Horst, A. Hill and K. Gorman, CC0"
)
# Of each table: its file beside this one, the column to learn, and who made it.
SOURCES = {
    "penguins": ("penguins.csv", "species", _PENGUINS),
    "penguin_mass": ("penguins.csv", "body_mass_g", _PENGUINS),
    "csv_file": ("", "", "a table of the author's own"),
}
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[*SOURCES]  # what --data.dataset may be

_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}:\d{2}|[A-Z][a-z]{2,8}\.? \d{1,2},? \d{4})"
    r"([T ,].*|:\d{2}(\.\d+)?)?"
)


def check_name(table: Table, option: str, name: str | None) -> None:
    """Refuse a column that is not there; ``option`` is where its name was given."""
    if name not in table.columns:
        near = difflib.get_close_matches(str(name), table.columns, n=5) or [*table.columns][:12]
        given = f"data.{option} is {name or 'not given'}"
        raise UserError(f"{given}; choose a column of {table.file} with --data.{option}, such as {', '.join(near)}.")


def is_class(table: Table, target: str, kind: str | None) -> bool:
    """Whether the target is a class, and no number; two different values are classes.

    Raises:
        UserError: It can't be learned, or not as the kind that was asked for.
    """
    count, word = len(set(table.columns[target])), first_word(table, target)
    if count < 2:
        raise UserError(f"the target {target} has {count} value in {table.file}, so there is nothing to learn.")
    if word and kind == "number":
        raise UserError(f"data.kind is number, but {target} has words. Leave out --data.kind, or replace them. {word}")
    as_class = kind == "class" or (kind is None and (bool(word) or count == 2))
    if as_class and count > max(2, len(table.rows) // 2):
        many = f"the target {target} has {count} different values in {len(table.rows)} rows: these are no classes."
        other = f", or make all values numbers. {word}" if word else ", or --data.kind number."
        raise UserError(f"{many} Choose another --data.target{other}")
    return as_class


def describe(table: Table, names: Sequence[str], rows: np.ndarray) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Tell what is known of columns from the training rows alone, and why some are left out.

    A word counts if it is there twice: from the others, the model learns what an unknown word means.

    Returns:
        By name, ``{"words": [...]}``, or mean, standard deviation and whether values are missing; the reasons; and the
        columns that are words for the sake of a few, at most a fifth.

    Raises:
        UserError: A column has dates, or there is none to learn from.
    """
    known: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    mixed: list[str] = []
    for name in names:
        texts = table.columns[name]
        odd, count = texts[words(texts)], (texts != "").sum()
        if len(odd):
            if len(odd) <= count / 5:
                mixed.append(f"{name} ({count - len(odd)} numbers and {listed(sorted(set(odd)))})")
            if all(not text or _DATE.fullmatch(text) for text in texts):
                dates = f"the column {name} has dates, such as {next(filter(None, texts))}, which are not supported."
                raise UserError(f"{dates} Leave it out with --data.ignore '[{name}]', or write it as numbers.")
            different: Any = Counter(texts[rows])
            found: dict[str, Any] = {"words": sorted(word for word, count in different.items() if count > 1)}
        else:
            there = numbers(texts[rows])
            there = there[np.isfinite(there)]
            different, missing = np.unique(there), len(there) < len(rows)
            found = {"mean": float(there.mean()), "std": float(there.std()), "missing": missing} if len(there) else {}
        if len(different) < 2:
            left_out[name] = "it has one value"
        elif not any(found.get("words", found)):
            left_out[name] = "no word is there twice"
        else:
            known[name] = found
    if not known:
        raise UserError(f"{table.file} has no column to learn from: {left_out or 'there is none beside the target'}.")
    return known, left_out, mixed
