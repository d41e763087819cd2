"""The trainer script: ``python -m <package> fit``. To train other classes, import them here instead.

`run` builds these classes and a Lightning Trainer from ``configs/default.yaml`` and the command line. It trains in a
new folder below ``runs/``, with the logger and callbacks of that file, tests the best checkpoint, and writes a report.
To read it, unpack the library: ``python -m zipfile -e vendor/*.whl DIR``, then ``DIR/lightning_runs/commands/fit.py``.
"""

from collections.abc import Sequence

from lightning_runs import run

from .data import DataModule
from .module import SegmentationModel


def main(args: Sequence[str] | None = None) -> int:
    """Run a command, such as ``["fit"]``, and return its exit code; None takes this process's command line."""
    return run(SegmentationModel, DataModule, args, package=__package__)
