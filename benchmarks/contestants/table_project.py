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
from task import OPTIMIZER, PACKAGE, Stopwatch

DISTRIBUTION = "pytorch-lightning"


def train(task: TableTask, watch: Stopwatch) -> None:
    _EvaluationLoop.run = watch.paused(_EvaluationLoop.run)
    (learner,) = (of for of in vars(module).values() if isinstance(of, type) and issubclass(of, LightningModule))
    learner.on_train_end = lambda self: watch.stop()  # the test of the best checkpoint comes after it
    values = {
        "seed_everything": task.seed,
        "logger": "csv",
        "data.dataset": "csv_file",
        "data.root": task.root,
        "data.target": "tree",
        "data.batch_size": task.batch_size,
        "model.optimizer": "torch.optim.AdamW",
        "model.optimizer.init_args.fused": "true",
        **{f"model.optimizer.init_args.{name}": value for name, value in OPTIMIZER.items()},
        "model.scheduler": "null",
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": task.epochs,
        "trainer.default_root_dir": f"{task.folder}/runs",
    }
    os.chdir(task.project)
    sys.argv = [PACKAGE, "fit", *(f"--{name}={value}" for name, value in values.items())]
    if code := command.main():
        raise SystemExit(f"the project ended with {code}")
