"""``repeat``: train over several seeds, or over the folds of a cross-validation, and summarize the metrics.

Each is a run like any other, ``NAME-seed-42`` or ``NAME-fold-0``.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from ..cli.arguments import ONE_PROCESS, run_options
from ..cli.messages import is_mistake
from ..cli.run_cli import RunCLI
from ..contract import Contract
from ..errors import UserError, brief
from ..files import relative_path
from ..names import program
from ..reports import charts, predictions, report, tables
from ..reports.tables import as_text
from ..runs import Run, results
from .trials import Trials, argument_parser

SUMMARY = ("mean", "standard deviation", "95 % from", "95 % to")


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Train all runs, or those that are missing, and summarize their metrics."""
    parser = argument_parser("repeat", "Train over several seeds or folds.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--seeds", type=int, metavar="N", help="train with seed_everything and the seeds after it")
    kind.add_argument("--folds", type=int, metavar="K", help="cross-validation over K parts of the training data")
    trials = Trials(parser, ["repeat", *args], (module_class, data_class))
    folds = trials.options.folds
    values = _values(trials, RunCLI(*trials.classes, ["fit", *trials.fit_args], execute=False).contract)
    with trials.locked("fold-*" if folds else "seed-*", folds=folds):
        for stem, options in values.items():
            if trials.run(stem).record.get("status") != "finished":
                trials.train(stem, options)
        runs = [trials.run(stem) for stem in values]
        table = _summary_table(runs, folds)
        if folds:
            _write_out_of_fold(trials, runs)
        page = report.write([report.Report(run) for run in runs], [table], trials.folder / "repeat.html")
        print(f"Report: {page}")
    return 0


def _values(trials: Trials, contract: Contract) -> dict[str, dict[str, Any]]:
    seeds = trials.options.seeds
    folds = trials.options.folds
    for option, count in (("--seeds", seeds), ("--folds", folds)):
        if count is not None and count < 2:
            raise UserError(f"{option} is {count}; it must be at least 2, because one run has no spread.")
    if seeds:
        seed = trials.base["seed_everything"]
        first = seed if type(seed) is int else 0  # true and false choose a seed themselves
        return {f"seed-{seed}": {"seed_everything": seed} for seed in range(first, first + seeds)}
    trials.refuse("--data.fold", "--data.num_folds")
    if not contract.has("fold"):
        data = contract.data_class.__name__ if contract.data_class else "a project without a data module"
        hint = f"Add the arguments fold and num_folds to the data module's __init__: {program()} docs own-classes"
        raise UserError(f"{data} has no folds. {hint}")
    same = {"data.num_folds": folds, "test": False}  # a fold must not read the test data
    return {f"fold-{fold}": {"data.fold": fold, **same} for fold in range(folds)}


def _summary_table(runs: Sequence[Run], folds: int | None) -> tuple[str, str]:
    """Print a row for each run, then mean, standard deviation and interval; return the title and the table as HTML."""
    measured = {run.name: results(run, "validate.json" if folds else "test.json") for run in runs}
    shared = [name for name in measured[runs[0].name] if all(name in metrics for metrics in measured.values())]
    names = [name for name in shared if name != "checkpoint"]
    if not names:
        raise UserError(f"there is no metric to summarize. Log one in {'validation_step' if folds else 'test_step'}.")
    rows: list[list[Any]] = [[run, *(metrics[name] for name in names)] for run, metrics in measured.items()]
    columns = [summary([metrics[name] for metrics in measured.values()], bool(folds)) for name in names]
    rows += [[label, *values] for label, values in zip(SUMMARY, zip(*columns, strict=True), strict=True)]
    title = "Each run, and their summary"
    print(f"\n{title}\n{as_text(['run', *names], rows)}")
    note = ", corrected for the data that folds share (Nadeau and Bengio, 2003)" if folds else ""
    print(f"The interval is the 95 % confidence interval of the mean, by Student's t{note}.\n", flush=True)
    return title, charts.Markup(charts.table(["run", *names], rows, "numbers"))


def summary(values: Sequence[float], folds: bool) -> tuple[float, float, float, float]:
    """Return the mean, the standard deviation, and the bounds of the mean's 95 % interval by Student's t.

    Folds share most of their training data, so their values vary less than those of independent data would. Nadeau and
    Bengio (2003, https://doi.org/10.1023/A:1024068626366) correct the variance of the mean of k folds: 1/k becomes
    1/k + 1/(k - 1), where 1/(k - 1) is the size of the validation part divided by that of the training part.
    """
    from scipy.special import stdtrit  # the quantile; scipy.stats takes a second to import

    count = len(values)
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan, math.nan, math.nan
    mean = fmean(values)
    deviation = stdev(values)
    variance = 1 / count + (1 / (count - 1) if folds else 0)
    half = float(stdtrit(count - 1, 0.975)) * deviation * math.sqrt(variance)
    return mean, deviation, mean - half, mean + half


def _write_out_of_fold(trials: Trials, runs: Sequence[Run]) -> None:
    """Let each fold predict the part that it was not trained on; print why, if there is no ``out_of_fold.csv``."""
    file = trials.folder / "out_of_fold.csv"
    header: list[str] = []
    rows: dict[int, list[Any]] = {}
    for fold, run in enumerate(runs):
        options = [*run_options(str(run.folder)), *ONE_PROCESS, "--trainer.limit_predict_batches=1.0"]
        try:
            cli = RunCLI(*trials.classes, ["predict", *options], execute=False)
            columns = predictions.compute(cli)
            if "index" not in columns:
                raise UserError("predict_step returns no index of the items")
            header, body = predictions.rows(cli, columns)
        except Exception as error:
            if not is_mistake(error):
                raise
            print(f"There is no {file.name}: {brief(error).rstrip('.')}.", flush=True)
            return
        for item, row in zip(columns["index"], body, strict=True):
            if int(item) in rows:
                hint = "With num_folds, predict_dataloader must yield the validation part."
                raise UserError(f"folds {rows[int(item)][0]} and {fold} both predicted item {int(item)}. {hint}")
            rows[int(item)] = [fold, *row]
    tables.write_csv(file, ["fold", *header], [rows[item] for item in sorted(rows)])
    print(f"Predictions of each item, by the fold that was not trained on it: {relative_path(file)}", flush=True)
