"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def as_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in columns, numbers to the right, and a dash for None."""
    cells = [["-" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    sides = [">" if any(isinstance(v, int | float) for v in column) else "<" for column in zip(*rows, strict=True)]
    lines = (map("{:{}{}}".format, row, sides, widths) for row in (header, *cells))
    return "\n".join("  ".join(line).rstrip() for line in lines)
