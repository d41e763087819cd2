"""What `serve` has predicted, kept in a SQLite file of bounded size; `drift` reads it. No inputs are in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("time", "model", "label", "probability", "statistics")
TABLE = """
CREATE TABLE IF NOT EXISTS predictions (id INTEGER PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, label TEXT,
probability REAL, statistics TEXT NOT NULL)
"""


class Store:
    """Write predictions into a file. A process that is killed loses at most those that are being added.

    Args:
        path: The file; it is made where there is none.
        limit: The largest number of predictions that are kept; the oldest are removed.

    Raises:
        sqlite3.Error: The file can't be written, or is none of SQLite; also raised by `add`.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.limit = limit
        # a thread adds, and another one closes, but never both at once; another process may write too
        self.connection = sqlite3.connect(path, timeout=1, check_same_thread=False)
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")  # who reads and who writes don't wait for one another
            self.connection.execute("PRAGMA synchronous = NORMAL")
            with self.connection:
                self.connection.execute(TABLE)
        except sqlite3.Error:
            self.connection.close()
            raise

    def add(self, rows: Sequence[tuple[float, str, str | None, float | None, str]]) -> None:
        """Add predictions, all or none: time in seconds since 1970, model, label, probability, JSON of statistics."""
        with self.connection:
            insert = f"INSERT INTO predictions ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?)"
            self.connection.executemany(insert, rows)
            newest = "(SELECT max(id) FROM predictions)"
            self.connection.execute(f"DELETE FROM predictions WHERE id <= {newest} - ?", (self.limit,))

    def close(self) -> None:
        """Bring everything into the one file, and close it."""
        self.connection.close()
