"""Catalyst as its documentation's MNIST example has it."""
# pyright: reportMissingImports=false

import os

from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of
from torch import nn


def train(task: Task) -> dict:
    from catalyst import dl

    class Timer(dl.Callback):
        def __init__(self):
            super().__init__(order=0)

        def on_epoch_start(self, runner):
            watch.epoch()

    watch, network, loader = Stopwatch(), network_of(task), documented_loader(task)
    output = os.dup(1)
    os.dup2(2, 1)
    dl.SupervisedRunner(engine=dl.CPUEngine()).train(
        model=network,
        criterion=nn.CrossEntropyLoss(),
        optimizer=optimizer_of(task, network),
        loaders={"train": loader},
        num_epochs=task.epochs,
        callbacks={"timer": Timer()},
    )
    os.dup2(output, 1)
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
