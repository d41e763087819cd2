"""skorch with a dict of arrays, as its documentation has it for networks of several inputs; no validation."""
# pyright: reportMissingImports=false, reportCallIssue=false

import torch
from skorch import NeuralNetClassifier
from tables import TableTask
from task import OPTIMIZER, Stopwatch
from torch import nn

DISTRIBUTION = "skorch"


def train(task: TableTask, watch: Stopwatch) -> None:
    numbers, words, classes = task.rows()
    net = NeuralNetClassifier(
        task.network(),
        criterion=nn.CrossEntropyLoss,
        max_epochs=task.epochs,
        batch_size=task.batch_size,
        optimizer=torch.optim.AdamW,
        **{f"optimizer__{name}": value for name, value in OPTIMIZER.items()},
        iterator_train__shuffle=True,
        iterator_train__drop_last=True,
        train_split=None,
        device="cpu",
    )
    net.fit({"numbers": numbers.numpy(), "words": words.numpy()}, classes.numpy())
