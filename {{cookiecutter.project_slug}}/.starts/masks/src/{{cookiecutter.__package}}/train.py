"""The trainer script: ``python -m <package> fit``. To train your own classes, put their names in the place of these."""

from collections.abc import Sequence

from lightning_runs import run

from .data import DataModule
from .module import SegmentationModel


def main(args: Sequence[str] | None = None) -> int:
    """Run a command, such as ``["fit"]``, and return its exit code; None takes this process's command line."""
    return run(SegmentationModel, DataModule, args, package=__package__)
