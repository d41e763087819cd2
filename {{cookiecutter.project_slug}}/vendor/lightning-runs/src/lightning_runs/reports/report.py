"""``report RUN [RUN …]``: one HTML file that shows a run, or compares several; it needs no network and no script.

The page shows what the run's files hold, under the names that the files give. Whatever else is to be seen of a task
comes from the contract's ``sections``. Its texts are in ``report.html.jinja``.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape

from .. import contract
from ..errors import UserError, brief, reason
from ..files import relative_path, write_whole
from ..names import program
from ..resume import differences
from ..runs import Run
from ..runs.options import flat
from ..runs.run import test_result
from . import charts, predictions

RATES = "learning rate"
CHARTS = 12  # that are shown at once; the rest is folded
Part = tuple[str, str]  # a title, and HTML


class Files:
    """What a run's folder holds for its report: its options, the lines of ``metrics.csv``, and ``test.json``.

    Raises:
        UserError: There is nothing to show, or the configuration can't be read.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.test, self.rows = run, test_result(run), []
        try:
            self.config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{run.config_file} can't be read: {reason(error)}.") from error
        file = run.folder / "metrics.csv"
        with suppress(OSError, csv.Error, UnicodeDecodeError), file.open(newline="", encoding="utf-8") as stream:
            self.rows = list(csv.DictReader(stream))
        if not self.rows and not self.test and not any(run.checkpoints.glob("*.ckpt")):
            raise UserError(
                f"the run {run.name} has no metrics, no test result and no checkpoint, so there is nothing to report."
                f" Go on with it: {program()} fit --resume {run.name}"
            )

    @property
    def metrics(self) -> dict[str, str]:
        """The test metrics as they are shown, the headline first."""
        names = sorted((name for name in self.test if name != "checkpoint"), key=self.is_headline, reverse=True)
        return {name: self.written(name, self.test[name]) for name in names}

    def is_headline(self, metric: str) -> bool:
        """Whether a metric such as ``test/accuracy`` is the one that counts."""
        headline = self.run.record.get("headline")
        return bool(headline) and headline[0] == _split(metric)[1].partition("/dataloader_idx_")[0]

    def written(self, metric: str, value: Any) -> str:
        """Write a metric's value with its unit."""
        if not isinstance(value, int | float):
            return "-" if value is None else str(value)
        unit = (self.run.record["headline"][2] or "") if self.is_headline(metric) else ""
        return f"{value:.2%}" if unit == "%" else f"{charts.number(value)} {unit}".strip()


def unbeaten_baselines(files: Files) -> Iterator[str]:
    """Say of each baseline that the headline of the test is no better than what it reaches."""
    baseline, metric = files.run.record.get("baseline"), next(iter(files.metrics), "")
    if not isinstance(baseline, dict) or not files.is_headline(metric):
        return
    sign = 1 if files.run.record["headline"][1] == "max" else -1
    for name, reached in baseline.items():
        if metric in reached and not sign * files.test[metric] > sign * reached[metric]:
            than = f"{files.written(metric, reached[metric])} ({name})"
            yield f"{metric} {files.metrics[metric]} is no better than the baseline's {than}."


def baseline_of(cli: Any) -> dict[str, dict[str, float]] | str:
    """Ask what simple models reach, for the run's record; a text says why that can't be told."""
    try:
        found = contract.get("baseline", cli.model, cli.datamodule)()
        return {str(name): {str(metric): float(v) for metric, v in values.items()} for name, values in found.items()}
    except Exception as error:
        return brief(error)


def sections_of(make: Callable[[], Any]) -> list[Part]:
    """Draw the task's own sections from the predictions of the run's best checkpoint."""
    parts = []
    try:
        cli = make()
        fingerprint = contract.get("fingerprint", cli.datamodule, cli.model)
        if cli.run is not None and differences.data_changed(cli.run, fingerprint):
            raise UserError("the data have changed since the run was trained.")
        columns = predictions.compute(cli)
        sections = contract.get("sections", cli.model, cli.datamodule)
        for title, html in sections(columns, cli.datamodule) if cli.trainer.is_global_zero else ():
            draw: Any = html if callable(html) else partial(str, html)
            parts.append((str(title), _drawn(draw)))
    except Exception as error:  # the data or the checkpoint may be gone: the rest of the report is still of use
        parts.append(("Sections of the task", _missing(brief(error))))
    except SystemExit:  # which the parser has explained
        parts.append(("Sections of the task", _missing("the run's options no longer fit the project's classes")))
    return parts


def _drawn(draw: Callable[[], str]) -> Markup:
    try:
        return Markup(draw())
    except Exception as error:
        return _missing(brief(error))


def _missing(why: str) -> Markup:
    return Markup(f'<p class="missing">This could not be drawn: {escape(why)}</p>')


def write(files: Sequence[Files], sections: Sequence[Part] | None = None, output: Path | None = None) -> str:
    """Write the report of one run, or the comparison of several, and return the path of the file for the user.

    Args:
        files: What the runs' folders hold.
        sections: Sections of the task; None if there is no method that draws them.
        output: The file; None is a file in the run's folder, or beside the folders of several.

    Raises:
        UserError: The file can't be written.
    """
    drawn = [_drawn(partial(charts.line_chart, title, lines, "step")) for title, lines in curves(files).items()]
    text = charts.template(Path(__file__).with_name("report.html.jinja")).render(
        files=files,
        first=files[0],
        sections=sections,
        charts=drawn[:CHARTS],
        more_charts=drawn[CHARTS:],
        differences=differing_options(files),
        program=program(),
        config_file=shlex.quote(relative_path(files[0].run.config_file)),
        table=lambda *args: Markup(charts.table(*args)),
        missing=_missing,
        duration=lambda seconds: str(timedelta(seconds=round(seconds))),
        yaml=partial(yaml.safe_dump, sort_keys=False, allow_unicode=True),
    )
    folder = files[0].run.folder
    file = output or (folder.parent / "compare.html" if len(files) > 1 else folder / "report.html")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.lstrip())
    except OSError as error:
        raise UserError(f"the report can't be written to {file}: {error.strerror or error}.") from error
    return relative_path(file)


def curves(files: Sequence[Files]) -> dict[str, list[charts.Line]]:
    """Gather the lines of each chart by its title. The metrics that count come first, learning rates last.

    A run has a chart for each name after the split; several runs have one for each metric.
    """
    found: dict[str, list[charts.Line]] = {}
    splits: dict[str, int] = {}  # with their styles, which are the same in each chart
    for number, one in enumerate(files):
        for column in one.rows[0] if one.rows else ():
            split, name = _split(str(column))
            if column in (None, "step", "epoch", *one.test):  # the numbers of the test are shown as such
                continue
            if column.startswith("lr-"):
                line = f"{one.run.name} {column}" if len(files) > 1 else column
                title, style = RATES, len(found.get(RATES, ()))
            elif len(files) > 1:
                title, line, style = column, one.run.name, number
            else:
                title, line, style = name, column, splits.setdefault(split, len(splits))
            points = []
            for row in one.rows:
                with suppress(TypeError, ValueError, KeyError):  # a row has values of some metrics alone
                    points.append((float(row["step"]), float(row[column])))
            xs, ys = ([point[i] for point in points] for i in (0, 1))
            found.setdefault(title, []).append(charts.Line(line, xs, ys, style))
    metrics = {str(one.run.record.get("metric")) for one in files}
    metrics |= {_split(metric)[1] for metric in metrics}
    first = {title for title in found if title in metrics or any(one.is_headline(title) for one in files)}
    return {title: found[title] for title in sorted(found, key=lambda t: (t == RATES, t not in first))}


def _split(metric: str) -> tuple[str, str]:
    """Return the split and the name of a metric such as ``val/loss`` or ``val_loss``."""
    found = re.match(r"(?:(train|val|test)_|(.*?)/)(.+)", metric)
    return (found[1] or found[2], found[3]) if found else ("", metric)


def differing_options(files: Sequence[Files]) -> list[tuple[str, ...]]:
    """Return the options that are not the same in all runs, each with the value of each run."""
    options = [flat(one.config, lists=True) for one in files]
    names = dict.fromkeys(name for some in options for name in some)
    rows = [(name, *(str(some.get(name, "(not there)")) for some in options)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]
