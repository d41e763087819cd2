"""``report RUN [RUN …]``: write one HTML file that shows a run, or compares several."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from .. import runs
from ..cli.arguments import run_name
from ..cli.run_cli import RunCLI
from ..contract import Contract
from ..names import program
from ..reports.report import Files, baseline_of, sections_of, unbeaten_baselines, write


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Write the report that the command line asks for, print where it is, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"{program()} report", description="Write an HTML file that shows runs.", allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name of a run, or its folder")
    where = "the file (default: report.html in the run's folder; of several runs compare.html beside their folders)"
    parser.add_argument("--output", type=Path, help=where)
    options = parser.parse_args(args)
    found = {run_name(name): runs.find(runs.default_root(), run_name(name), finished=False) for name in options.runs}
    files, sections = [Files(run) for run in found.values()], None
    if len(files) == 1 and Contract(module_class, data_class).has("sections"):
        chosen = ["predict", "--run", *found]
        sections = sections_of(partial(RunCLI, module_class, data_class, chosen, execute=False))
    print(f"Report: {write(files, sections, options.output)}")
    return 0


def after_fit(cli: RunCLI) -> None:
    """Write the report of a run that was just trained, and say where. Each rank calls this, for all predict a part."""
    if cli.run is None:
        return
    cli.trainer.loggers = []  # they are closed, and W&B refuses what predicting would log
    sections = sections_of(lambda: cli) if cli.contract.has("sections") else None
    if cli.trainer.is_global_zero:
        if cli.contract.has("baseline"):
            cli.run.update(baseline=baseline_of(cli))
        files = Files(cli.run)
        print(f"Report: {write([files], sections)}", flush=True)
        for sentence in unbeaten_baselines(files):
            print(sentence, flush=True)
