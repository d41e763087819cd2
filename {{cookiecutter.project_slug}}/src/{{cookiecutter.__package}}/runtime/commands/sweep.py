"""``python -m <package> sweep``: search for better options with Optuna, by any number of processes, killed or not."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import signals
from ..errors import UserError
from . import _extras, _sweep_space

PROGRAM = f"python -m {__name__.split('.')[0]}"


def main(args: list[str]) -> int:
    """Search until so many trials are complete or pruned, and write the best one's configuration.

    Args:
        args: The command line after ``sweep``.

    Returns:
        The exit code: 0 if the sweep is complete, and where a signal stopped it that of `signals.EXIT_CODES`.

    Raises:
        UserError: The search space, an option or the database can't be used, or trials fail.
    """
    name, options, fit = _parse(args)
    if options.trials < 1:
        raise UserError(f"--trials is {options.trials}; it must be at least 1.")
    _extras.require("sweep", "optuna", "plotly")
    space = _sweep_space.read(options.space)

    from ..parser import quiet
    from ._sweep_trial import Parsed
    from ._sweep_work import Sweep

    for option in ("run", "resume", "ckpt_path"):
        if any(argument.split("=")[0] == f"--{option}" for argument in fit):
            raise UserError(f"--{option} is no option of sweep: it names its runs itself, {name}-000 and so on.")
    with quiet():
        base = Parsed(["fit", *fit]).options
        for values in space.samples():
            Parsed(["fit", *fit, *_sweep_space.arguments(values)])
    root = Path(base["trainer"]["default_root_dir"] or "runs")
    if (root / name / "config.yaml").is_file():
        raise UserError(f"{root / name} is a run. Choose another name for the sweep: sweep NAME")
    try:
        (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the sweep's folder {root / name} can't be made: {error.strerror}.") from error
    url = options.storage or f"sqlite:///{(root / name / 'sweep.db').as_posix()}"
    try:
        with _database_errors(url):
            sweep = Sweep(name, root, space, url, fit, PROGRAM)
            sweep.begin(base)
            sweep.work(options.trials)
            sweep.conclude()
    except signals.Stopped as stop:
        again = f"{PROGRAM} sweep {shlex.join(args)}"
        print(f"stopped by {stop.name}; to go on: {again}", file=sys.stderr)
        return int(stop.code or 1)
    return 0


def _parse(args: list[str]) -> tuple[str, argparse.Namespace, list[str]]:
    """Tell the sweep's name, its own options, and those that are for `fit`."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} sweep",
        usage="%(prog)s [NAME] [--trials N] [--space FILE] [--storage URL] [options of fit]",
        description="Search for better options. The same command again goes on with a sweep that was killed, or works"
        " on it beside the others. NAME (default: sweep) comes first: its files are in runs/NAME, its trials are the"
        " runs NAME-000, NAME-001 and so on. Options of fit apply to every trial.",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="trials in all (default: 20)")
    parser.add_argument(
        "--space",
        type=Path,
        default=Path("configs/sweep.yaml"),
        metavar="FILE",
        help="what is searched (default: configs/sweep.yaml)",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database for several machines, such as postgresql://user@host/base (default: a file in runs/NAME)",
    )
    # only as the first one: later it could be the value of an option of fit
    named = bool(args) and not args[0].startswith("-")
    options, fit = parser.parse_known_args(args[named:])
    return (args[0] if named else "sweep"), options, fit


@contextlib.contextmanager
def _database_errors(url: str) -> Iterator[None]:
    """Tell in one line why a database can't be used."""
    try:
        yield
    except Exception as error:
        from ._sweep_work import is_of_database

        if not (is_of_database(error) or isinstance(error, ImportError)):
            raise
        inner: Any = error
        while inner.__cause__ is not None or getattr(inner, "orig", None) is not None:
            inner = inner.__cause__ or inner.orig
        told = str(inner).strip().splitlines()[0][:200]
        if "locked" in told:
            told = "another program has locked it. Close that one, then give the same command again"
        hidden = url if "@" not in url else f"{url.split('://')[0]}://…@{url.rsplit('@', 1)[1]}"  # no password
        raise UserError(f"the sweep's database {hidden} can't be used: {told}.") from error
