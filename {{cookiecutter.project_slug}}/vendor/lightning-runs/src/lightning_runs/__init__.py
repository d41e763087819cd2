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
    from .commands.project import Model, Project
    from .errors import UserError
    from .resume.callback import ExactResume
    from .runs import Run

__version__ = "1.0.0"
__all__ = ["ExactResume", "Model", "Project", "Run", "UserError", "run"]

# The module of each public name, which is imported when the name is first used.
MODULES = {
    "ExactResume": "resume.callback",
    "Model": "commands.project",
    "Project": "commands.project",
    "Run": "runs",
    "UserError": "errors",
    "run": "commands",
}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{MODULES[name]}", __name__), name)
