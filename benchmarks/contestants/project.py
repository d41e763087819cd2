"""The baked project: its own command ``fit``, with its default callbacks and the csv logger."""

import os
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from common import Stopwatch, Task, accuracy_of, main, size_of
from pytorch_lightning.callbacks import Callback

sys.modules["project"] = sys.modules[__name__]  # where the option finds the callback


class Timer(Callback):
    """Time epochs from start to start, without validation."""

    watch = Stopwatch()
    found: dict[str, Any] = {}  # noqa: RUF012 - read when the training has ended

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.watch.epoch()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.validation = time.perf_counter()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.watch.paused(time.perf_counter() - self.validation)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.found |= {"samples": trainer.num_training_batches * trainer.datamodule.batch_size, "module": pl_module}


def train(task: Task) -> dict:
    options = {
        "data.dataset": task.dataset,
        "data.root": task.root,
        "data.batch_size": task.batch_size,
        "data.augment": "false",
        "model.network": f"{task.package}.network.{task.network}",
        "model.optimizer.init_args.lr": task.lr,
        "model.scheduler": "null",
        "trainer.max_epochs": task.epochs + 1,  # the last one's end belongs to no next one
        "seed_everything": task.seed,
        "logger": "csv",
    }
    config = os.path.join(os.environ["PROJECT"], "configs")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.symlink(config, "configs")
        arguments = [f"--{name}={value}" for name, value in options.items()]
        output = os.dup(1)
        os.dup2(2, 1)  # what the project prints is no result
        code = import_module(f"{task.package}.train").main(["fit", *arguments, "--trainer.callbacks+=project.Timer"])
        os.dup2(output, 1)
        os.chdir("/")
    if code:
        raise SystemExit(code)
    network = Timer.found["module"].network
    return Timer.watch.result(Timer.found["samples"], size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
