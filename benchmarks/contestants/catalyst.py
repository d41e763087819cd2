"""Catalyst as in its README's MNIST example: a SupervisedRunner with an accuracy; validation left out."""
# pyright: reportMissingImports=false

import torch
from task import OPTIMIZER, Stopwatch, Task
from torch import nn

try:
    from accelerate.utils import DistributedType
    from catalyst import dl

    _ = DistributedType.TPU
except (ImportError, AttributeError) as error:
    raise ImportError(
        "catalyst 22.4, the newest, has metadata that pip refuses since 24.1, and asks for DistributedType.TPU, which a"
        " current accelerate has not"
    ) from error

DISTRIBUTION = "catalyst"


def train(task: Task, watch: Stopwatch) -> None:
    network = task.network()
    runner = dl.SupervisedRunner(input_key="features", output_key="logits", target_key="targets", loss_key="loss")
    runner.train(
        model=network,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(network.parameters(), **OPTIMIZER),
        loaders={"train": task.loader()},
        num_epochs=task.epochs,
        callbacks=[dl.AccuracyCallback(input_key="logits", target_key="targets", topk=(1,))],
        logdir="./logs",
        verbose=True,
    )
