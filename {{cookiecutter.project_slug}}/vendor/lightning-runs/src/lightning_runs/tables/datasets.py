"""The tables that a project knows by name."""

from dataclasses import dataclass
from typing import Literal

DatasetName = Literal["penguins", "penguin_mass", "csv_file"]


@dataclass(frozen=True)
class TableSource:
    """Who made a table; for a bundled one also its file in the project's package, and the column to learn."""

    credit: str
    file: str = ""
    target: str = ""


_PENGUINS = (
    "344 penguins of the Palmer Archipelago, by K. B. Gorman, T. D. Williams and W. R. Fraser,"
    " https://doi.org/10.1371/journal.pone.0090081, from palmerpenguins by A. Horst, A. Hill and K. Gorman, CC0"
)
SOURCES: dict[str, TableSource] = {
    "penguins": TableSource(_PENGUINS, "penguins.csv", "species"),
    "penguin_mass": TableSource(_PENGUINS, "penguins.csv", "body_mass_g"),
    "csv_file": TableSource("a table of the author's own"),
}
