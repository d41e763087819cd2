"""The baked project of tables by its own command line, as project.py does it for images."""
# pyright: reportMissingImports=false

import os
import sys

from my_lightning_project import __main__ as command
from my_lightning_project import module
from my_lightning_project import train as _  # noqa: F401 - so that it is imported before the fork
from pytorch_lightning import LightningModule
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from tables import TableTask
from task import PACKAGE, Stopwatch, Task, fit_options

DISTRIBUTION = "pytorch-lightning"


def fit(task: Task, watch: Stopwatch, **options: object) -> None:
    """Train the baked project of any front, with options by their dotted names."""
    _EvaluationLoop.run = watch.paused(_EvaluationLoop.run)
    (learner,) = (of for of in vars(module).values() if isinstance(of, type) and issubclass(of, LightningModule))
    learner.on_train_end = lambda self: watch.stop()  # the test of the best checkpoint comes after it
    os.chdir(task.project)
    sys.argv = [PACKAGE, *fit_options(task, **options)]
    if code := command.main():
        raise SystemExit(f"the project ended with {code}")


def train(task: TableTask, watch: Stopwatch) -> None:
    fit(task, watch, **{"data.target": "tree"})
