"""The report: one HTML file that shows a run, or compares several; it needs no network and no script.

The page shows the contents of the run's files, under the names in these files. Everything about the task comes from
the contract's ``sections``. The texts of the page are in ``report.html.jinja``.
"""

import re
import shlex
from collections.abc import Callable, Sequence
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
from ..resume import checkpoint_files, differences
from ..runs import Run, metric_rows, results
from ..runs.options import flat
from . import charts, predictions

RATES = "learning rate"
Section = tuple[str, str]  # a title, and HTML


class Report:
    """The report of a run, or of any folder with a ``metrics.csv`` and ``checkpoints/``, such as a CSVLogger's.

    ``Report("logs/lightning_logs/version_0").write()`` writes a page, which says what the folder lacks.

    Raises:
        UserError: There is nothing to report, or a file can't be read.
    """

    def __init__(self, run: Run | str | Path) -> None:
        self.run = run if isinstance(run, Run) else Run(Path(run).absolute())
        self.rows = metric_rows(self.run)
        self.test = results(self.run)
        self.is_plain = not self.run.config_file.is_file()  # of a plain script, or of a Trainer alone
        self.checkpoint = ""
        file = self.run.folder / "hparams.yaml" if self.is_plain else self.run.config_file
        try:
            self.config = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{file} can't be read: {reason(error)}.") from error
        if self.is_plain:
            if not self.rows:
                raise UserError(f"{self.run.folder} has no metrics.csv with rows, so there is nothing to report.")
            with suppress(UserError):
                self.checkpoint = checkpoint_files.best_checkpoint(self.run).name

    def write(self, output: Path | None = None) -> str:
        """Write the page, by default ``report.html`` in the folder, and return its path."""
        return write([self], None, output)

    @property
    def metrics(self) -> dict[str, str]:
        """The test metrics as texts, the headline first."""
        names = sorted((name for name in self.test if name != "checkpoint"), key=self.is_headline, reverse=True)
        return {name: self.metric_text(name, self.test[name]) for name in names}

    def is_headline(self, metric: str) -> bool:
        """Return whether a metric such as ``test/accuracy`` is the one that counts."""
        headline = self.run.record.get("headline")
        return bool(headline) and headline[0] == _split_and_name(metric)[1].partition("/dataloader_idx_")[0]

    def metric_text(self, metric: str, value: Any) -> str:
        """Return a metric's value as text, with its unit."""
        if not isinstance(value, int | float):
            return "-" if value is None else str(value)
        unit = (self.run.record["headline"][2] or "") if self.is_headline(metric) else ""
        return f"{value:.2%}" if unit == "%" else f"{charts.number(value)} {unit}".strip()


def baseline_of(cli: Any) -> dict[str, dict[str, float]] | str:
    """Return the metrics of simple models, by their names; a text is the reason why there are none."""
    try:
        found = contract.get("baseline", cli.model, cli.datamodule)()
        return {str(name): {str(metric): float(v) for metric, v in values.items()} for name, values in found.items()}
    except Exception as error:
        return brief(error)


def sections_of(make_cli: Callable[[], Any]) -> list[Section]:
    """Draw the task's own sections from the predictions of the run's best checkpoint."""
    drawn = []
    try:
        cli = make_cli()
        fingerprint = contract.get("fingerprint", cli.datamodule, cli.model)
        if cli.run is not None and differences.data_changed(cli.run, fingerprint):
            raise UserError("the data have changed since the run was trained.")
        columns = predictions.compute(cli)
        sections = contract.get("sections", cli.model, cli.datamodule)
        for title, html in sections(columns, cli.datamodule) if cli.trainer.is_global_zero else ():
            draw: Any = html if callable(html) else partial(str, html)
            drawn.append((str(title), _drawn(draw)))
    except Exception as error:  # data or checkpoint may be gone, and the rest of the report is still of use
        drawn.append(("Sections of the task", _not_drawn(brief(error))))
    except SystemExit:  # the parser has printed the reason
        drawn.append(("Sections of the task", _not_drawn("the run's options no longer fit the project's classes")))
    return drawn


def _drawn(draw: Callable[[], str]) -> Markup:
    try:
        return Markup(draw())
    except Exception as error:
        return _not_drawn(brief(error))


def _not_drawn(cause: str) -> Markup:
    return Markup(f'<p class="missing">This could not be drawn: {escape(cause)}</p>')


def write(files: Sequence[Report], sections: Sequence[Section] | None = None, output: Path | None = None) -> str:
    """Write the report of one run, or the comparison of several, and return the path of the file for the user.

    Without ``output``, that is ``report.html`` in the run's folder, or ``compare.html`` beside several runs' folders.
    ``sections`` are those of the task; None if there is no method that draws them.
    """
    options = [flat(one.config) for one in files]
    names = dict.fromkeys(name for some in options for name in some)
    values = [(name, *(str(some.get(name, "(not there)")) for some in options)) for name in names]
    lines = curves(files)
    drawn = [_drawn(partial(charts.line_chart, title, some, "step")) for title, some in lines.items()]
    text = charts.template(Path(__file__).with_name("report.html.jinja")).render(
        files=files,
        first=files[0],
        sections=sections,
        charts=drawn,
        lines=[line for some in lines.values() for line in some],
        differences=[row for row in values if len(set(row[1:])) > 1],
        program=program(),
        config_file=shlex.quote(relative_path(files[0].run.config_file)),
        table=lambda *args: Markup(charts.table(*args)),
        not_drawn=_not_drawn,
        duration=lambda seconds: str(timedelta(seconds=round(seconds))),
        yaml=partial(yaml.safe_dump, sort_keys=False, allow_unicode=True),
    )
    folder = files[0].run.folder
    file = output or (folder.parent / "compare.html" if len(files) > 1 else folder / "report.html")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.lstrip())
    return relative_path(file)


def curves(files: Sequence[Report]) -> dict[str, list[charts.Line]]:
    """Return the lines of each chart by its title. The metrics that count come first, learning rates last.

    A run has a chart for each name after the split; several runs have a chart for each metric.
    """
    found: dict[str, list[charts.Line]] = {}
    split_styles: dict[str, int] = {}  # a split has the same style in each chart
    for number, one in enumerate(files):
        for metric in one.rows[0] if one.rows else ():
            if metric in (None, "step", "epoch", *one.test):  # the test has numbers, not curves
                continue
            split, name = _split_and_name(metric)
            if metric.startswith("lr-"):
                title = RATES
                style = len(found.get(RATES, ()))
            elif len(files) > 1:
                title = metric
                style = number
            else:
                title = name
                style = split_styles.setdefault(split, len(split_styles))
            label = f"{one.run.name} {metric}" if len(files) > 1 else metric
            points = []
            for row in one.rows:
                with suppress(TypeError, ValueError, KeyError):  # most rows hold only some of the metrics
                    points.append((float(row["step"]), float(row[metric])))
            line = charts.Line(label, [step for step, _ in points], [value for _, value in points], style)
            found.setdefault(title, []).append(line)
    chosen_by = {str(one.run.record.get("metric")) for one in files}
    chosen_by |= {_split_and_name(metric)[1] for metric in chosen_by}
    leading = {title for title in found if title in chosen_by or any(one.is_headline(title) for one in files)}
    return {title: found[title] for title in sorted(found, key=lambda title: (title == RATES, title not in leading))}


def _split_and_name(metric: str) -> tuple[str, str]:
    """Return the split and the name of a metric such as ``val/loss`` or ``val_loss``."""
    found = re.match(r"(?:(train|val|test)_|(.*?)/)(.+)", metric)
    return (found[1] or found[2], found[3]) if found else ("", metric)
