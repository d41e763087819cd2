"""What the folder of a `repeat` holds, and its runs beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..runs import Run, write_whole


class Results:
    """A repeat that may be finished, under way, or not there.

    Args:
        folder: Its folder, ``runs/NAME``.

    Attributes:
        record: What ``repeat.json`` holds: ``begun``, the options; ``runs``, the ends of the runs' names once all are
            finished; ``items``, which items each fold has predicted. Empty where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "repeat.json"
        self.record: dict[str, Any] = json.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}

    @property
    def folds(self) -> int | None:
        """Number of folds; None if its runs have seeds."""
        return self.record["begun"]["folds"]

    def update(self, **values: Any) -> None:
        """Change values of the record and write it."""
        self.record |= values
        write_whole(self._file, json.dumps(self.record, indent=2) + "\n")

    def run(self, stem: str) -> Run:
        """The run whose name ends so."""
        return Run(self.folder.with_name(f"{self.folder.name}-{stem}"))

    def is_finished(self, stem: str) -> bool:
        """Whether a run has come to its end."""
        return self.run(stem).record.get("status") == "finished"

    def measured(self, stem: str) -> dict[str, float]:
        """The metrics of a run: of a fold on its part for validation, else on the test data. The headline is first."""
        run = self.run(stem)
        file = run.folder / ("validate.json" if stem.startswith("fold") else "test.json")
        found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        headline = (run.record.get("headline") or [""])[0]
        names = sorted(found.keys() - {"checkpoint"}, key=lambda name: (name.partition("/")[2] != headline, name))
        return {name: found[name] for name in names}

    def data_of(self, stem: str) -> tuple[Any, Any]:
        """What tells whether two runs had the same data: their fingerprint, and which items a fold has predicted."""
        return self.run(stem).record.get("fingerprint"), self.record.get("items", {}).get(stem)
