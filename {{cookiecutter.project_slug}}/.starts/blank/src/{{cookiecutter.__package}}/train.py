"""The trainer script: ``python -m <package> fit``. To train other classes, put their names in the place of these."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_runs import run

from .data import DigitsDataModule
from .module import DigitClassifier


def main(args: Sequence[str] | None = None) -> int:
    """Run a command, such as ``["fit"]``, and return its exit code; None takes this process's command line."""
    return run(DigitClassifier, DigitsDataModule, args, package=__package__)
