"""``drift [RUN]``: compare what `serve` has seen and predicted with the data that the model was tested on.

It needs neither torch nor the project's classes: `export` has written the one side, ``reference.json``, and `serve` the
other, a SQLite file.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .. import runs
from ..errors import UserError, reason
from . import PROGRAM, as_text, exports
from .comparison import Comparison, compare

FOUND = 3  # the exit code where there is drift; 1 is a failure, and 2 a mistake on the command line
LEAST = 30  # predictions that are compared
MOST = 20_000  # of more, so many are taken, evenly spread
SHOWN = 30  # lines of the table in a terminal, and charts of the page
BINS = 24  # of a histogram
HEAD = ("statistic", "tested", "served", "difference", "p", "")


def main(args: list[str]) -> int:
    """Compare, print a table, write a page, and return the exit code."""
    options = _parse(args)
    export, run = exports.find(options.run)
    reference = _reference(export / "reference.json", options.run)
    rows, seen = _read(options.store or export / "predictions.sqlite", reference["model"], options.since)
    found = compare(reference, rows, options.level, options.least_difference)
    drifting = sum(one.drifts for one in found)
    verdict = f"{'Drift' if drifting else 'No drift'}: of {len(found)} statistics, {drifting or 'none'}"
    verdict += f" differ{'s' if drifting < 2 else ''}, at the level {options.level:g}"
    print(as_text(HEAD, [one.cells for one in found[:SHOWN]]))
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more")
    print(f"{seen}\n{verdict}")
    if find_spec("jinja2") is None:  # which comes with torch; the table and the exit code are of use without
        print("No page was written: jinja2 is not installed.")
    else:
        times = [f"{datetime.fromtimestamp(rows[i]['time']):%Y-%m-%d %H:%M}" for i in (0, -1)]
        values = {"verdict": verdict, "seen": seen, "times": times, "tested": len(reference["labels"])}
        print(f"Page: {_write(run.folder if run else export, found, values)}")
    return FOUND if drifting else 0


def _parse(args: list[str]) -> argparse.Namespace:
    def fraction(text: str) -> float:
        if not 0 <= float(text) < 1:
            raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
        return float(text)

    def date(text: str) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text} is no date such as 2030-01-31 or 2030-01-31T18:00") from error

    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} drift",
        description="Compare what was served with the data that the model was tested on, and write drift.html into the"
        f" run's folder. Exit code: 0 without drift, {FOUND} with drift, 1 where nothing can be compared.",
        allow_abbrev=False,
    )
    text = "name or folder of a run, or a folder with an exported model (default: the newest finished run)"
    parser.add_argument("run", nargs="?", metavar="RUN", help=text)
    text = "what serve has kept (default: predictions.sqlite beside the model)"
    parser.add_argument("--store", type=Path, metavar="FILE", help=text)
    text = "probability of an alarm where nothing has changed (default: 0.01)"
    parser.add_argument("--level", type=fraction, default=0.01, metavar="X", help=text)
    text = "smaller differences are no drift, however certain they are, 0 to 1 (default: 0)"
    parser.add_argument("--least_difference", type=fraction, default=0.0, metavar="X", help=text)
    text = "leave out what was served before, such as 2030-01-31 or 2030-01-31T18:00, in local time"
    parser.add_argument("--since", type=date, metavar="DATE", help=text)
    return parser.parse_args(args)


def _reference(file: Path, run: str | None) -> dict[str, Any]:
    """Read what `export` has written for this comparison."""
    again = f"Write it with: {PROGRAM} export{f' {run}' if run else ''}"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        lengths = {len(values) for values in (*found["statistics"].values(), found["labels"], found["probabilities"])}
        if 0 in lengths or not isinstance(found["model"], str) or "classes" not in found:
            raise ValueError("it lacks values")
        return found
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist. {again}") from error
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(f"{file} can't be read: {reason(error)}. {again}") from error


def _read(store: Path, model: str, since: datetime | None) -> tuple[list[dict[str, Any]], str]:
    """Read the predictions of a model, in the order of their times, and say how many there are."""
    if not store.is_file():
        raise UserError(f"there are no predictions at {store}. `serve` keeps them; name its file with --store FILE.")
    chosen, of_model = (since.timestamp() if since else 0.0, model), "FROM predictions WHERE time >= ? AND model"
    try:
        with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (count,), (others,) = (
                connection.execute(f"SELECT count(*) {of_model} {sign} ?", chosen).fetchone() for sign in ("=", "!=")
            )
            every = count // MOST + 1
            columns = ("time", "label", "probability", "statistics")
            query = f"SELECT {', '.join(columns)} {of_model} = ? AND id % {every} = 0 ORDER BY time"
            rows: list[dict[str, Any]] = [
                dict(zip(columns, row, strict=True)) for row in connection.execute(query, chosen)
            ]
        for row in rows:
            row["statistics"] = dict(json.loads(row["statistics"]))
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise UserError(f"{store} can't be read as what serve has kept: {reason(error)}.") from error
    seen = f"{count} predictions of the model {model} in {os.path.relpath(store)}"
    seen += f" since {since}" if since else ""
    seen += f", of which one in {every} is compared" if every > 1 else ""
    seen += f"; {others} of other models are left out" if others else ""
    if len(rows) < LEAST:
        advice = "Where the model was exported anew, serve it anew." if others else "Wait for more."
        raise UserError(f"too few to compare: {seen}. It takes {LEAST}. {advice}")
    return rows, seen


def _write(folder: Path, found: Sequence[Comparison], values: Mapping[str, Any]) -> str:
    """Write the page, and return its path for the user."""
    from .. import charts

    def drawn(one: Comparison) -> str:
        if isinstance(one.before, Counter):
            return ""
        values = np.concatenate([one.before, one.now])
        edges = np.histogram_bin_edges(values, BINS, (np.quantile(values, 0.005), np.quantile(values, 0.995)))
        lines = []
        for i, (label, of) in enumerate((("tested", one.before), ("served", one.now))):
            shares = np.histogram(of.clip(edges[0], edges[-1]), edges)[0] / len(of)
            heights = [0.0, *np.repeat(shares, 2).tolist(), 0.0]
            lines.append(charts.Line(label, np.repeat(edges, 2).tolist(), heights, i))
        return charts.line_chart(one.name, lines, "value (height: share of the inputs)")

    text = charts.template(Path(__file__).with_name("drift.html.jinja")).render(
        found=found,
        shown=[(one, charts.Markup(drawn(one))) for one in found[:SHOWN]],
        table=lambda *args: charts.Markup(charts.table(*args)),
        name=folder.name,
        head=HEAD,
        **values,
    )
    try:
        runs.write_whole(folder / "drift.html", text.lstrip())
    except OSError as error:
        raise UserError(f"the page can't be written to {folder}: {error.strerror or error}.") from error
    return os.path.relpath(folder / "drift.html")
