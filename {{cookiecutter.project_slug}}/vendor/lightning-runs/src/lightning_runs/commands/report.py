"""``report RUN [RUN …]``: write one HTML file that shows a run, or compares several."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from .. import runs
from ..cli import classes
from ..cli.arguments import run_name
from ..cli.run_cli import RunCLI
from ..contract import Contract
from ..errors import brief
from ..names import program
from ..reports.report import Report, baseline_of, sections_of, write


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Write the report of one run, or the comparison of several, print its path, and return the exit code."""
    parser = argparse.ArgumentParser(f"{program()} report", description="Show or compare runs.", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="name of a run, or its folder")
    text = "the file (default: report.html in the run's folder, or compare.html beside the folders of several runs)"
    parser.add_argument("--output", type=Path, metavar="FILE", help=text)
    options = parser.parse_args(args)
    found = {run_name(name): runs.find(runs.default_root(), run_name(name), finished=False) for name in options.runs}
    files = [Report(run) for run in found.values()]
    sections = None
    used = classes.of_file(files[0].run.config_file, (module_class, data_class))
    if len(files) == 1 and Contract(*used).has("sections"):
        predict = ["predict", "--run", *found]
        sections = sections_of(partial(RunCLI, module_class, data_class, predict, execute=False))
    print(f"Report: {write(files, sections, options.output)}")
    return 0


def after_fit(cli: Any) -> None:
    """Write the report of the run that was just trained, and print its path. Every rank must call this."""
    try:
        cli.trainer.loggers = []  # they are closed, and W&B refuses what a prediction would log
        sections = sections_of(lambda: cli) if cli.contract.has("sections") else None
        if not cli.trainer.is_global_zero:
            return
        if cli.contract.has("baseline"):
            cli.run.update(baseline=baseline_of(cli))
        cli.say(f"Report: {write([Report(cli.run)], sections)}")
    except Exception as error:  # whatever a chart may trip over, the run is finished
        cli.say(f"No report was written: {brief(error)}")
