"""Tables that the tests write."""

from pathlib import Path

import numpy as np
from starts import start_module

COLOURS = ("red", "green", "blue")
DataModule = start_module("table", "data").DataModule


def rows(count: int = 60) -> list[list[str]]:
    """Lines of a table: a number, a word, a number with missing values, and a class that follows from the first."""
    random = np.random.default_rng(0)
    lines = [["size", "colour", "weight", "kind"]]
    for i in range(count):
        size = random.normal(10, 3)
        weight = "" if i % 7 == 0 else f"{random.normal(100, 20):.2f}"
        lines.append([f"{size:.3f}", COLOURS[i % 3], weight, "large" if size > 10 else "small"])
    return lines


def rows_with(column: int, value: str, where: slice = slice(1, None)) -> list[list[str]]:
    """Rows with a value in a column."""
    lines = rows()
    for line in lines[where]:
        line[column] = value
    return lines


def write(file: Path, lines: list[list[str]], delimiter: str = ",", end: str = "\n", encoding: str = "utf-8") -> Path:
    """Write a table."""
    file.write_bytes("".join(delimiter.join(line) + end for line in lines).encode(encoding))
    return file


def prepared(**options):
    """A data module of a bundled table."""
    data = DataModule(**options)
    data.setup("fit")
    return data


def read(file: Path, target: str = "kind", **options):
    """A data module of a written table."""
    return prepared(dataset="csv_file", root=str(file), target=target, **options)
