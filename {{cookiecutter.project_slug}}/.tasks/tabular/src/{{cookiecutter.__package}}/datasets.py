"""The tables that are known (`SOURCES`), how one is split, and what is told of its columns."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .inputs import Table
from .runtime.data import held_out, shuffled
from .runtime.errors import UserError

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


def numbers(table: Table, name: str) -> np.ndarray | None:
    """Return a column as numbers, ``(N,)`` float64, or None if it has words."""
    try:
        return np.array(table.numbers(name))
    except ValueError:
        return None


def target_kind(table: Table, name: str, kind: str | None) -> str:
    """Tell whether the target is a ``class`` or a ``number``; two different values are classes.

    Raises:
        UserError: It can't be learned, or not as the kind that was asked for.
    """
    count, values = len(set(table.columns[name])), numbers(table, name)
    if count < 2:
        raise UserError(f"the target {name} has {count} value in {table.file}, so there is nothing to learn.")
    if values is None and kind == "number":
        words = ", ".join(sorted(set(table.columns[name]))[:3])
        raise UserError(f"data.kind is number, but {name} has words: {words} … Leave out --data.kind, or give class.")
    kind = kind or ("class" if values is None or count == 2 else "number")
    if kind == "class" and count > max(2, len(table.lines) // 2):
        many = f"the target {name} has {count} different values in {len(table.lines)} rows"
        raise UserError(f"{many}: these are no classes. Choose another --data.target, or --data.kind number.")
    return kind


def split(
    count: int,
    labels: Sequence[str] | None,
    groups: Sequence[str] | None,
    fractions: tuple[float, float],
    seed: int,
    fold: int | None,
    num_folds: int | None,
) -> dict[str, np.ndarray]:
    """Share out rows to ``train``, ``val`` and ``test``.

    Args:
        count: Number of rows.
        labels: The class of each row, of which each part gets its share; None if there are no classes.
        groups: A group for each row; the rows of a group stay together, and groups are shared out instead of rows.
        fractions: The share of the test rows in all, and of the validation rows in what is left.
        seed: Chooses the rows.
        fold: With ``num_folds``, which of so many parts of what is left is for validation; None is none of them.
        num_folds: Number of parts, each of which is for validation once; None takes the fraction.
    """
    unit_of_row = np.unique(np.array(groups), return_inverse=True)[1] if groups else np.arange(count)
    order = shuffled(unit_of_row.max() + 1, seed, None if groups else labels)
    of_test = held_out(len(order), fractions[0])
    rest = order[~of_test]
    of_val = held_out(len(rest), fractions[1], fold, num_folds)
    units = {"train": rest[~of_val], "val": rest[of_val], "test": order[of_test]}
    parts = {part: np.flatnonzero(np.isin(unit_of_row, of)) for part, of in units.items()}
    if not labels:
        return parts
    # each class needs training rows; which rows are tested is the same in every fold
    for part, others in (("test", ("train", "val")), ("val", ("train",))):
        known = {labels[i] for other in others for i in parts[other].tolist()}
        is_rare = np.array([labels[i] not in known for i in parts[part].tolist()], bool)
        if groups and is_rare.any():
            rare = min(labels[int(i)] for i in parts[part][is_rare])
            raise UserError(f"no group of the training part has the class {rare}. Try another --data.split_seed.")
        parts["train"] = np.sort(np.concatenate([parts["train"], parts[part][is_rare]]))
        parts[part] = parts[part][~is_rare]
    return parts


def describe(table: Table, names: Sequence[str], rows: np.ndarray) -> tuple[dict[str, Any], dict[str, str]]:
    """Tell what is known of columns from the training rows alone, and why some are left out.

    A word counts if it is there twice: from the others, the model learns what an unknown word means.

    Returns:
        By name, ``{"words": [...]}``, or mean, standard deviation and whether values are missing; and the reasons.

    Raises:
        UserError: A column has dates, or there is none to learn from.
    """
    columns: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name in names:
        values = numbers(table, name)
        if values is not None:
            known = values[rows][np.isfinite(values[rows])]
            if len(known) and known.min() < known.max():
                missing = len(known) < len(rows)
                columns[name] = {"mean": float(known.mean()), "std": float(known.std()), "missing": missing}
            else:
                left_out[name] = "it has one value"
            continue
        texts = table.columns[name]
        if all(not text or _DATE.fullmatch(text) for text in texts):
            told = f"the column {name} has dates, such as {next(filter(None, texts))}, which are not supported."
            raise UserError(f"{told} Leave it out with --data.ignore '[{name}]', or write it as numbers.")
        counts = Counter(texts[i] for i in rows)
        words = sorted(word for word, count in counts.items() if count > 1)
        if len(counts) > 1 and any(words):
            columns[name] = {"words": words}
        else:
            left_out[name] = "it has one value" if len(counts) == 1 else "no word is there twice"
    if not columns:
        raise UserError(f"{table.file} has no column to learn from: {left_out or 'there is none beside the target'}.")
    return columns, left_out
