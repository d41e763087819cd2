"""``repeat``: train over several seeds, or over the folds of a cross-validation, and tell how far the metrics spread.

Each of them is a run like any other, ``NAME-seed-42`` or ``NAME-fold-0``, held by a lock while a process trains it.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..cli.messages import message
from ..contract import Contract
from ..errors import UserError, brief
from ..files import write_whole
from ..names import program
from ..reports import charts, report
from ..reports.tables import as_text
from ..runs import Run, check_name
from . import trials
from .folds import Ends
from .intervals import summarize

FINAL = ("ensemble", "refit", "none")


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Train all runs, or those that are still missing, and write what they say together.

    Raises:
        UserError: An option or the folder can't be used, or a run fails.
    """
    name, options, fit = _parse(args)
    trials.refuse("repeat", fit, trials.OF_A_RUN, f"it names its runs itself, {name}-seed-0 and so on")
    if options.folds:
        trials.refuse("repeat", fit, {"--data.fold", "--data.num_folds"}, "it gives each run a fold of its own")
        if not Contract(module_class, data_class).has("fold"):
            raise UserError(
                f"{data_class.__name__ if data_class else 'a project without a data module'} knows no folds. Add to the"
                " data module's __init__ the arguments fold and num_folds; docs/own-code.md says what they do."
            )
    base = trials.options(module_class, data_class, fit)
    if base["trainer.fast_dev_run"]:
        raise UserError("--trainer.fast_dev_run keeps no run, so there is nothing to repeat. Leave it out.")
    folder = Path(base["trainer.default_root_dir"] or "runs") / name
    with trials.resumable("repeat", args):
        repeat = Repeat(folder, options, base, partial(trials.train, module_class, data_class, fit))
        repeat.work(repeat.runs)
        with FileLock(folder / "repeat.lock"):  # of several processes, one after the other comes to the end
            repeat.show()
            if options.folds:
                ends = Ends(repeat, base, (module_class, data_class))
                ends.write_out_of_fold()
                try:
                    ends.test(options.final or FINAL[0])
                except UserError as error:
                    if options.final:
                        raise
                    print(f"note: {error}", flush=True)  # nobody asked for the ensemble, and the folds are complete
            repeat.update(runs=[*repeat.runs])
            if repeat.against:
                repeat.compare(repeat.against)
            repeat.write_page()
    return 0


def _parse(args: list[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """Return the name, the options of `repeat`, and those of `fit`."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} repeat",
        usage="%(prog)s [NAME] (--seeds N | --folds K) [--final WHAT] [--against NAME] [options of fit, for every run]",
        description="Train over several seeds or folds. The same command again goes on, or works on it beside others."
        " runs/NAME (default: repeat) has the results, and the runs are runs/NAME-seed-42 or runs/NAME-fold-0 and so"
        " on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train with seed_everything and the N - 1 seeds after it"
    )
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validation over K parts of the training data")
    final = "tested after the folds: their ensemble (default), a refit on all training data, or none"
    parser.add_argument("--final", metavar="WHAT", help=final)
    parser.add_argument("--against", metavar="NAME", help="compare with another repeat, run by run")
    name, options, fit = trials.parsed("repeat", parser, args)
    if (options.seeds is None) == (options.folds is None):
        raise UserError("repeat takes either --seeds N or --folds K, such as: repeat --seeds 5")
    for option in ("seeds", "folds"):
        if (count := getattr(options, option)) is not None and count < 2:
            raise UserError(f"--{option} is {count}; it must be at least 2, for one run has no spread.")
    if options.final not in (None, *FINAL):
        raise UserError(f"--final is {options.final!r}; it must be one of {', '.join(FINAL)}.")
    if options.final and options.seeds:
        raise UserError("--final is an option of --folds; with --seeds each run is tested itself.")
    return name, options, fit


class Results:
    """What the folder of a repeat holds, and its runs beside it.

    Args:
        folder: The folder, ``runs/NAME``.

    Attributes:
        record: What ``repeat.json`` holds: ``begun``, the options; ``items``, a hash of those that each fold has
            predicted; ``runs``, the ends of their names, once all are finished. Empty where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "repeat.json"
        self.record: dict[str, Any] = json.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}

    def update(self, **values: Any) -> None:
        """Change values of the record and write it."""
        self.record |= values
        write_whole(self._file, json.dumps(self.record, indent=2) + "\n")

    def run(self, stem: str) -> Run:
        """The run whose name ends so."""
        return Run(self.folder.with_name(f"{self.folder.name}-{stem}"))

    def measured(self, stem: str) -> dict[str, float]:
        """The metrics of a run, the headline first: of a fold on its part for validation, else on the test data."""
        run = self.run(stem)
        file = run.folder / ("validate.json" if stem.startswith("fold") else "test.json")
        found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        headline = (run.record.get("headline") or [""])[0]
        names = sorted(found.keys() - {"checkpoint"}, key=lambda name: (name.partition("/")[2] != headline, name))
        return {name: found[name] for name in names}

    def data_of(self, stem: str) -> tuple[Any, Any]:
        """The fingerprint of a run's data, and which of the items a fold has predicted."""
        return self.run(stem).record.get("fingerprint"), self.record.get("items", {}).get(stem)


class Repeat(Results):
    """The runs of a repeat, and this process's work on them.

    Args:
        folder: The folder of the results, ``runs/NAME``.
        options: The options of `repeat`.
        base: Those of `fit`, by their dotted names.
        fit: Runs `fit` with more options in this process.

    Attributes:
        runs: The options of each run, by the end of its name.
        against: The repeat to compare with, if there is one.
        tables: Titles and tables of the page.

    Raises:
        UserError: Another repeat of this name was begun, runs of these names are there already, or that to compare
            with is not.
    """

    def __init__(self, folder: Path, options: argparse.Namespace, base: dict[str, Any], fit: Any) -> None:
        self._fit, self.folds, self.tables = fit, options.folds, list[tuple[str, str]]()
        self.runs: dict[str, list[str]] = {}
        first = base["seed_everything"] if type(base["seed_everything"]) is int else 0
        for i in range(options.folds or 0):
            # no test: of the test data a fold knows nothing
            values = {"data.fold": i, "data.num_folds": options.folds, "trainer.limit_test_batches": 0}
            self.runs[f"fold-{i}"] = trials.arguments(values)
        for seed in range(first, first + (options.seeds or 0)):
            self.runs[f"seed-{seed}"] = trials.arguments({"seed_everything": seed})
        names = {f"{folder.name}-{stem}" for stem in (*self.runs, "final")}
        taken = [*folder.glob("config.yaml"), *folder.glob("trials.log")]
        taken += [path for path in folder.parent.glob(f"{folder.name}-*") if path.name in names]
        super().__init__(folder)  # after that look: the record is older than the runs of this repeat
        if taken and not self.record:
            raise UserError(f"{taken[0]} is there, and is no run of this repeat. Choose another name: repeat NAME")
        self.against = self._other(options.against) if options.against else None
        folder.mkdir(parents=True, exist_ok=True)
        now = trials.fixed(base, folds=options.folds)
        with FileLock(folder / "begin.lock"):
            super().__init__(folder)
            if not self.record:
                self.update(begun=now)
        trials.compare("repeat", folder.name, self.record["begun"], now)

    def work(self, runs: dict[str, list[str]]) -> None:
        """Train runs until all are finished, here or elsewhere.

        Raises:
            UserError: One has failed.
        """
        while missing := [stem for stem in runs if not self._is_finished(stem)]:
            for stem in missing:
                try:
                    claim = trials.claim(self.folder, stem)
                except Timeout:  # another process trains it
                    continue
                with claim:
                    if not self._is_finished(stem):
                        self._train(stem, runs[stem])
                break
            else:
                time.sleep(0.5)

    def _is_finished(self, stem: str) -> bool:
        return self.run(stem).record.get("status") == "finished"

    def _train(self, stem: str, options: list[str]) -> None:
        run = self.run(stem)
        print(f"{run.name} {'goes on' if run.config_file.is_file() else 'begins'}", flush=True)
        try:
            with (self.folder / f"{stem}.txt").open("a", encoding="utf-8") as file, redirect_stdout(file):
                self._fit([*options, f"--run={run.name}", "--resume"])
        except Exception as error:
            if message(error) is None:
                raise
            raise UserError(f"{run.name} failed: {brief(error)} What is finished is kept.") from error
        print(f"{run.name}:", *(f"{n} {value:.4f} " for n, value in self.measured(stem).items()), flush=True)

    def show(self) -> None:
        """Print a table: a row for each run, then mean, standard deviation and interval.

        Raises:
            UserError: No metric was measured.
        """
        measured = {stem: self.measured(stem) for stem in self.runs}
        names = [name for name in next(iter(measured.values())) if all(name in of for of in measured.values())]
        if not names:
            what = "validation" if self.folds else "test"
            raise UserError(f"no metric of the {what} is there to be compared. Log one in {what}_step.")
        rows = [[self.run(s).name, *(of[name] for name in names)] for s, of in measured.items()]
        summaries = [summarize([of[name] for of in measured.values()], self.folds) for name in names]
        labels = ("mean", "standard deviation", "95 % from", "95 % to")
        rows += [[label, *values] for label, values in zip(labels, zip(*summaries, strict=True), strict=True)]
        self.tabulate("Each run, and all of them", ["run", *names], rows)
        how = ", corrected for the training data that folds share (Nadeau and Bengio, 2003)" if self.folds else ""
        print(f"The interval is that of the mean, by Student's t over {len(rows) - 4} runs{how}.", flush=True)

    def tabulate(self, title: str, header: list[str], rows: list[list[Any]]) -> None:
        """Print a table, and keep it for the page."""
        self.tables.append((title, charts.Markup(charts.table(header, rows, "numbers"))))
        print(f"\n{title}\n{as_text(header, rows)}", flush=True)

    def _other(self, name: str) -> Results:
        """Find the repeat to compare with.

        Raises:
            UserError: There is none of that name, it is not finished, it has other runs, or folds of unknown items.
        """
        check_name("--against", name)
        other = Results(self.folder.with_name(name))
        if not other.record:
            raise UserError(f"there is no repeat {name} in {self.folder.parent} to compare with.")
        if not (stems := other.record.get("runs")):
            raise UserError(f"the repeat {name} has not come to its end. Give its command again first.")
        if stems != [*self.runs]:
            raise UserError(
                f"{name} has the runs {', '.join(stems)}, and this repeat has {', '.join(self.runs)}. Runs are compared"
                " one by one: both need the same seeds, or the same number of folds."
            )
        if self.folds and not other.record.get("items"):
            raise UserError(
                f"which items the folds of {name} have predicted is not known, so they can't be compared. Let"
                f" predict_step return an index, as docs/own-code.md says, and give the command of {name} again."
            )
        return other

    def compare(self, other: Results) -> None:
        """Print how the metrics differ from those of another repeat.

        Raises:
            UserError: The two had other data, or other folds of them.
        """
        for stem in self.runs:
            (data, items), (other_data, other_items) = self.data_of(stem), other.data_of(stem)
            pair, why = f"{self.run(stem).name} and {other.run(stem).name}", ""
            if data != other_data:
                why = f"{pair} had other data (see fingerprint in run.json)"
            elif self.folds and items is None:
                why = f"predict_step returns no index that tells the items of {self.run(stem).name}"
            elif items != other_items:
                why = f"{pair} had other folds of the data"
            if why:
                raise UserError(f"{why}: they can't be compared.")
        pairs = [(self.measured(stem), other.measured(stem)) for stem in self.runs]
        names = [name for name in pairs[0][0] if all(name in of for pair in pairs for of in pair)]
        rows = [[name, *summarize([a[name] - b[name] for a, b in pairs], self.folds)] for name in names]
        header = ["metric", "mean difference", "standard deviation", "95 % from", "95 % to"]
        self.tabulate(f"{self.folder.name} less {other.folder.name}, run by run", header, rows)

    def write_page(self) -> None:
        """Write the tables and the runs' curves as a page, if the command `report` is there."""
        files = [report.Files(self.run(stem)) for stem in self.runs]
        print(f"\nReport: {report.write(files, self.tables, self.folder / 'repeat.html')}")
