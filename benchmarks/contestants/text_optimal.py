"""The optimal loop of the images, on texts in memory, in batches of like length."""

import torch
from task import OPTIMIZER, Stopwatch
from texts import TextTask
from torch.nn import functional as F


def train(task: TextTask, watch: Stopwatch) -> None:
    network = task.network().train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **OPTIMIZER)
    for _ in range(task.epochs):
        for tokens, classes in task.batches():
            loss = F.cross_entropy(network(tokens), classes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
