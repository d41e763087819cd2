"""Accelerate as in its quicktour: `prepare`, and `accelerator.backward` in a loop of one's own."""
# pyright: reportMissingImports=false, reportCallIssue=false

import torch
from accelerate import Accelerator
from task import OPTIMIZER, Stopwatch, Task
from torch.nn import functional as F

DISTRIBUTION = "accelerate"


def train(task: Task, watch: Stopwatch) -> None:
    accelerator = Accelerator(cpu=True)
    network = task.network()
    optimizer = torch.optim.AdamW(network.parameters(), **OPTIMIZER)
    network, optimizer, loader = accelerator.prepare(network, optimizer, task.loader())
    network.train()
    for _ in range(task.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            accelerator.backward(loss)
            optimizer.step()
