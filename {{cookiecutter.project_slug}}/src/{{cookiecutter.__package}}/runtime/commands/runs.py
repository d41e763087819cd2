"""``runs``: a table of all runs in the terminal, or as CSV; torch is not imported, so it answers at once."""

from __future__ import annotations

import argparse
import csv
import difflib
import json
import math
import sys
import time
from contextlib import suppress
from typing import Any

import yaml

from .. import runs
from ..errors import UserError
from ..runs import Run

PROGRAM = f"python -m {__name__.split('.')[0]}"
# What each column holds; a value that is not known is None.
COLUMNS = {
    "name": "the folder's name",
    "status": "running, finished, failed or interrupted (also of a run whose process was killed)",
    "metric": "what the best checkpoint is chosen by",
    "best": "the best value of that metric so far",
    "test": "accuracy on the test images, 0 to 1",
    "epochs": "whole epochs",
    "time": "hours, minutes and seconds of work; in the CSV, seconds",
    "started": "date and time",
}


def main(args: list[str]) -> int:
    """Print the table, and return the exit code."""
    told = "columns: " + "; ".join(f"{name}: {what}" for name, what in COLUMNS.items())
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} runs", description="Show a table of all runs.", epilog=told, allow_abbrev=False
    )
    parser.add_argument("--sort", metavar="COLUMN", default="started", help="order by this column (default: started)")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--csv", action="store_true", help="as CSV, with plain numbers")
    options = parser.parse_args(args)
    if options.sort not in COLUMNS:
        near = difflib.get_close_matches(options.sort, COLUMNS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"there is no column {options.sort}; it must be one of {', '.join(COLUMNS)}.{guess}")
    root = runs.default_root()
    table = [summary(run) for run in reversed(runs.every(root))]
    # what is not known stands at the end, whichever way the rest goes
    unknown = [row for row in table if row[options.sort] is None]
    known = [row for row in table if row[options.sort] is not None]
    table = sorted(known, key=lambda row: row[options.sort], reverse=options.reverse) + unknown
    if options.csv:
        writer = csv.DictWriter(sys.stdout, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    elif table:
        print(drawn(table))
    else:
        print(f"There is no run in {root} yet. Train one with: {PROGRAM} fit")
    return 0


def summary(run: Run) -> dict[str, Any]:
    """One row of the table, by the names of `COLUMNS`."""
    record = run.record
    metric, lowest = _monitored(run)
    epochs, best = _progress(run, metric, lowest)
    test = None
    with suppress(OSError, json.JSONDecodeError, AttributeError):
        test = json.loads((run.folder / "test.json").read_text(encoding="utf-8")).get("test/accuracy")
    return {
        "name": run.name,
        "status": run.status,
        "metric": metric,
        "best": best if best is not None else record.get("best_score"),
        "test": test,
        "epochs": record.get("epochs", epochs),
        "time": _seconds(run),
        "started": record.get("started"),
    }


def _monitored(run: Run) -> tuple[str | None, bool]:
    """The metric by which the best checkpoint is chosen, and whether its lowest value is the best."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as quick, where it is there
    with suppress(OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        options = yaml.load(run.config_file.read_text(encoding="utf-8"), loader)
        for callback in options["trainer"]["callbacks"] or []:
            if callback["class_path"].endswith("ModelCheckpoint"):
                found = callback.get("init_args") or {}
                if found.get("monitor"):
                    return found["monitor"], found.get("mode", "min") == "min"
    return None, True


def _progress(run: Run, metric: str | None, lowest: bool) -> tuple[int | None, float | None]:
    """Epochs with a value of the metric, and the best of these values."""
    values: dict[str, float] = {}
    with (
        suppress(OSError, csv.Error, UnicodeDecodeError, ValueError),
        (run.folder / "metrics.csv").open(newline="", encoding="utf-8") as stream,
    ):
        rows = csv.reader(stream)
        head = next(rows, [])
        if metric in head and "epoch" in head:
            at, epoch = head.index(metric), head.index("epoch")
            for row in rows:
                if len(row) > at and row[at] and math.isfinite(value := float(row[at])):
                    before = values.get(row[epoch], value)
                    values[row[epoch]] = min(before, value) if lowest else max(before, value)
    if not values:
        return None, None
    return len(values), min(values.values()) if lowest else max(values.values())


def _seconds(run: Run) -> float | None:
    """Seconds of work on a run, in all of its processes one after the other."""
    seconds = run.record.get("seconds")
    if seconds is not None and run.status == "running":
        with suppress(OSError):  # the record is written once in an epoch
            seconds += max(0.0, time.time() - (run.folder / "run.json").stat().st_mtime)
    return None if seconds is None else round(seconds, 1)


def drawn(table: list[dict[str, Any]]) -> str:
    """The table as text, numbers to the right."""
    numbers = {"best", "test", "epochs", "time"}
    cells = [{name: _cell(name, row[name]) for name in COLUMNS} for row in table]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in COLUMNS}
    lines = [
        "  ".join(
            text.rjust(widths[name]) if name in numbers else text.ljust(widths[name]) for name, text in row.items()
        )
        for row in [{name: name for name in COLUMNS}, *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "time":
        seconds = int(value)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
