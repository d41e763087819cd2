"""PyTorch Ignite as in its quickstart: a supervised trainer, and the loss every 100 iterations."""
# pyright: reportMissingImports=false

import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from task import OPTIMIZER, Stopwatch, Task
from torch import nn

DISTRIBUTION = "pytorch-ignite"


def train(task: Task, watch: Stopwatch) -> None:
    network = task.network()
    optimizer = torch.optim.AdamW(network.parameters(), **OPTIMIZER)
    trainer = create_supervised_trainer(network, optimizer, nn.CrossEntropyLoss(), device="cpu")

    @trainer.on(Events.ITERATION_COMPLETED(every=100))
    def log_training_loss(engine: Engine) -> None:
        print(f"epoch {engine.state.epoch}, iteration {engine.state.iteration}: loss {engine.state.output:.2f}")

    trainer.run(task.loader(), max_epochs=task.epochs)
