"""Runs for PyTorch Lightning: run folders, exact resume, loggers and commands for any two Lightning classes.

A project's ``train.py`` gives its LightningModule and its LightningDataModule to `run`. Its package makes a `Project`,
whose `main` is the command line and whose `fit` and `load` are for Python and notebooks. `lightning_runs.contract`
lists the optional names that are read on the two classes.

Nothing here imports torch before it is needed: ``--help`` and ``runs`` answer at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands import run
    from .commands.export import export
    from .commands.project import Model, Project
    from .errors import UserError
    from .reports.report import Report
    from .resume.callback import ExactResume
    from .runs import Run
    from .training import hardware
    from .training.progress import ProgressBar

__version__ = "1.0.0"
__all__ = ["ExactResume", "Model", "ProgressBar", "Project", "Report", "Run", "UserError", "export", "hardware", "run"]

# The module of each public name, which is imported when the name is first used.
MODULES = {
    "ExactResume": "resume.callback",
    "Model": "commands.project",
    "ProgressBar": "training.progress",
    "Project": "commands.project",
    "Report": "reports.report",
    "Run": "runs",
    "UserError": "errors",
    "export": "commands.export",
    "hardware": "training.hardware",
    "run": "commands",
}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{MODULES[name]}", __name__)
    return getattr(module, name, module)  # `hardware` is a module itself
