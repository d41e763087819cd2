"""How the tests read what a run has written."""

import csv
import json
from pathlib import Path


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))
