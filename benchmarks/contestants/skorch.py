"""skorch as in its MNIST notebook: normalised arrays in memory; without its default validation."""
# pyright: reportMissingImports=false, reportCallIssue=false

from typing import Any

import torch
from skorch import NeuralNetClassifier
from task import OPTIMIZER, Stopwatch, Task
from torch import nn

DISTRIBUTION = "skorch"


def classifier(task: Task, loss: type[nn.Module] = nn.CrossEntropyLoss, kind: Any = NeuralNetClassifier) -> Any:
    """Return the learner of a task."""
    return kind(
        task.network(),
        criterion=loss,
        max_epochs=task.epochs,
        batch_size=task.batch_size,
        optimizer=torch.optim.AdamW,
        **{f"optimizer__{name}": value for name, value in OPTIMIZER.items()},
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        train_split=None,
        device="cpu",
    )


def train(task: Task, watch: Stopwatch) -> None:
    images, labels = task.tensors()
    classifier(task).fit(task.normalize(images).numpy(), labels.numpy())
