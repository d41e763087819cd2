"""``runs``: a table of all runs in the terminal, or as CSV. It imports no torch, so it answers at once."""

import argparse
import csv
import math
import sys
from contextlib import suppress
from typing import Any

from .. import runs
from ..names import program
from ..reports.tables import as_text, escape_formula
from ..runs.run import test_result

COLUMNS = ("name", "status", "metric", "best", "test_metric", "test", "epochs", "time", "started")
HELP = (
    "metric: what the best checkpoint is chosen by; best: its best value so far; test: the value of"
    " test_metric, the one that counts, on the test data; time: hours, minutes and seconds of work, in the CSV seconds."
    " A killed run is interrupted."
)


def main(args: list[str]) -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(
        f"{program()} runs", description="Show a table of all runs.", epilog=HELP, allow_abbrev=False
    )
    parser.add_argument("--sort", choices=COLUMNS, default="started", help="order by this column (default: started)")
    parser.add_argument("--csv", action="store_true", help="as CSV, with plain numbers")
    options = parser.parse_args(args)
    root = runs.default_root()
    found = runs.every(root)
    for run in found:
        if run.damaged:
            print(f"left out: {run.damaged}", file=sys.stderr)
    rows = [row_of(run) for run in reversed(found) if not run.damaged]
    known = [row for row in rows if row[options.sort] is not None]
    known.sort(key=lambda row: row[options.sort])
    rows = known + [row for row in rows if row[options.sort] is None]
    if options.csv:
        cells = [map(escape_formula, row.values()) for row in rows]
        csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *cells])
    elif rows:
        print(as_text(COLUMNS, [list((row | {"time": duration(row["time"])}).values()) for row in rows]))
    else:
        print(f"There is no run in {root} yet. Train one with: {program()} fit")
    return 0


def row_of(run: runs.Run) -> dict[str, Any]:
    """Return one row of the table, by the names of `COLUMNS`; an unknown value is None."""
    record = run.record
    metric = str(record["metric"]) if record.get("metric") else None
    best = _best(run, metric)
    test_metric, test = _test(run, metric)
    seconds = _number(record.get("seconds"))
    debug = record.get("debug")
    return {
        "name": run.name,
        "status": f"{run.status} ({debug})" if debug else run.status,
        "metric": metric,
        "best": _number(record.get("best_score")) if best is None else best,
        "test_metric": test_metric,
        "test": test,
        "epochs": _number(record.get("epochs")),
        "time": None if seconds is None else round(seconds, 1),
        "started": str(record.get("started", "")) or None,
    }


def duration(seconds: float | None) -> str | None:
    """Return seconds as hours, minutes and seconds."""
    if seconds is None:
        return None
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{int(seconds) % 60:02}"


def _best(run: runs.Run, metric: str | None) -> float | None:
    """Return the best value of the metric in ``metrics.csv``."""
    best = max if run.record.get("mode") == "max" else min
    values = []
    file = run.folder / "metrics.csv"
    with suppress(OSError, ValueError, csv.Error), file.open(newline="", encoding="utf-8") as stream:
        values = [float(line[metric]) for line in csv.DictReader(stream) if metric and line.get(metric)]
    return best(filter(math.isfinite, values), default=None)


def _test(run: runs.Run, metric: str | None) -> tuple[str | None, float | None]:
    """Return a test metric's name and value: the headline, the monitored one, the first that is no loss, or a loss."""
    values = {name: value for name, value in test_result(run).items() if _number(value) is not None}
    headline = run.record.get("headline")
    wanted = [f"test/{headline[0]}" if isinstance(headline, list) else "", str(metric).replace("val", "test", 1)]
    for name in [*wanted, *sorted(values, key=lambda name: "loss" in name)]:
        if name in values:
            return name, values[name]
    return None, None


def _number(value: Any) -> Any:
    """Return a number as it is, and None for anything else: anybody may have changed the file."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None
