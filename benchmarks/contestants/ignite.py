"""PyTorch-Ignite as its documentation's MNIST example has it."""
# pyright: reportMissingImports=false

from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of
from torch import nn


def train(task: Task) -> dict:
    from ignite.engine import Events, create_supervised_trainer

    loader, network, watch = documented_loader(task), network_of(task), Stopwatch()
    trainer = create_supervised_trainer(network, optimizer_of(task, network), nn.CrossEntropyLoss(), device="cpu")
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: watch.epoch())
    trainer.run(loader, max_epochs=task.epochs)
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
