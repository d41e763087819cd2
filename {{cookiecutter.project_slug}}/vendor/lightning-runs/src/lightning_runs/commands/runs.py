"""``runs``: a table of all runs in the terminal, or as CSV. It imports no torch, so it answers at once."""

import argparse
import csv
import math
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from .. import runs
from ..names import program
from ..reports.tables import as_text, escape_formula

COLUMNS = ("name", "status", "metric", "best", "last", "test_metric", "test", "epochs", "time", "started")
HELP = (
    "metric: what the best checkpoint is chosen by; best and last: its values so far; test: the value of"
    " test_metric, the one that counts, on the test data; time: hours, minutes and seconds of work, in the CSV seconds."
    " A killed run is interrupted. Without a run.json, metric is a loss that begins with val, or another such metric,"
    " whose best value is unknown."
)


def main(args: list[str]) -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(f"{program()} runs", description="List all runs.", epilog=HELP, allow_abbrev=False)
    text = "list every folder in DIR with a run.json or a metrics.csv, such as a CSVLogger's, instead of this project's"
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help=text)
    parser.add_argument("--sort", choices=COLUMNS, default="started", help="order by this column (default: started)")
    parser.add_argument("--csv", action="store_true", help="as CSV, with plain numbers")
    options = parser.parse_args(args)
    root = options.folder or runs.default_root()
    found = runs.every(root)
    if options.folder is not None:
        folders = {file.parent for name in ("run.json", "metrics.csv") for file in root.absolute().rglob(name)}
        found = [runs.Run(folder) for folder in sorted(folders, reverse=True)]
        for run in found:
            run.name = str(run.folder.relative_to(root.absolute()))
    rows = [row_of(run) for run in reversed(found)]
    rows.sort(key=lambda row: (row[options.sort] is None, row[options.sort] or 0))
    if options.csv:
        cells = [map(escape_formula, row.values()) for row in rows]
        csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *cells])
    elif rows:
        for row in rows:
            row["time"] = None if row["time"] is None else str(timedelta(seconds=int(row["time"])))
        print(as_text(COLUMNS, [list(row.values()) for row in rows]))
    else:
        print(f"There is no run in {root}. Train one with: {program()} fit")
    return 0


def row_of(run: runs.Run) -> dict[str, Any]:
    """Return one row of the table, by the names of `COLUMNS`; an unknown value is None."""
    record = run.record
    rows = runs.metric_rows(run)
    metric = record.get("metric")
    best = max if record.get("mode") == "max" else min
    best_score = record.get("best_score")  # of a checkpoint; training may log a metric of the same name
    if not metric and not run.config_file.is_file():  # of a plain script, or of a plain Trainer alone
        names = [name for row in rows[:1] for name in row if str(name).startswith("val")]
        metric = min(names, key=lambda name: "loss" not in name, default=None)
        best = min if "loss" in str(metric) else None
    values: list[float] = []
    with suppress(ValueError):  # any program may have written the file
        values = [float(row[metric]) for row in rows if metric and row.get(metric)]
    seconds = record.get("seconds")
    status = run.status if record else None
    if record.get("debug"):
        status = f"{status} ({record['debug']})"
    tested = {name: value for name, value in runs.results(run).items() if isinstance(value, int | float)}
    test_metric = next(iter(tested), "")
    return {
        "name": run.name,
        "status": status,
        "metric": metric,
        "best": best and best(filter(math.isfinite, values), default=None) if best_score is None else best_score,
        "last": values[-1] if values else None,
        "test_metric": test_metric or None,
        "test": tested.get(test_metric),
        "epochs": record.get("epochs"),
        "time": None if seconds is None else round(seconds, 1),
        "started": record.get("started"),
    }
