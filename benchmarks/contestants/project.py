"""The baked project by its own command line, with its default callbacks and its csv logger.

Its hooks, checkpoints and log are in the time, whole epochs of them; validation alone is left out, which the others do
not do. Set is what all contestants share: data, network, batch size, optimizer with a constant rate, no augmentation.
"""
# pyright: reportMissingImports=false

import os
import sys

from my_lightning_project import __main__ as command
from my_lightning_project import train as _  # noqa: F401 - so that it is imported before the fork
from my_lightning_project.module import ImageClassifier
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from task import PACKAGE, Stopwatch, Task, fit_options

DISTRIBUTION = "pytorch-lightning"


def train(task: Task, watch: Stopwatch) -> None:
    _EvaluationLoop.run = watch.paused(_EvaluationLoop.run)
    ImageClassifier.on_train_end = lambda self: watch.stop()  # the test of the best checkpoint comes after it
    os.chdir(task.project)
    more = {"data.augment": "none", "model.network": f"{PACKAGE}.network.{task.model}"}
    sys.argv = [PACKAGE, *fit_options(task, **more)]
    if code := command.main():
        raise SystemExit(f"the project ended with {code}")
