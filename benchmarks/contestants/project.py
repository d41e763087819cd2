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
from task import OPTIMIZER, PACKAGE, Stopwatch, Task

DISTRIBUTION = "pytorch-lightning"


def options(task: Task) -> list[str]:
    """The command line."""
    values = {
        "seed_everything": task.seed,
        "logger": "csv",
        "data.dataset": task.dataset,
        "data.root": task.root,
        "data.batch_size": task.batch_size,
        "data.augment": "false",
        "model.network": f"{PACKAGE}.network.{task.model}",
        "model.optimizer": "torch.optim.AdamW",
        "model.optimizer.init_args.fused": "true",
        **{f"model.optimizer.init_args.{name}": value for name, value in OPTIMIZER.items()},
        "model.scheduler": "null",
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": task.epochs,
        "trainer.default_root_dir": f"{task.folder}/runs",
    }
    return ["fit", *(f"--{name}={value}" for name, value in values.items())]


def train(task: Task, watch: Stopwatch) -> None:
    _EvaluationLoop.run = watch.paused(_EvaluationLoop.run)
    ImageClassifier.on_train_end = lambda self: watch.stop()  # the test of the best checkpoint comes after it
    os.chdir(task.project)
    sys.argv = [PACKAGE, *options(task)]
    if code := command.main():
        raise SystemExit(f"the project ended with {code}")
