"""The fastest hand-written loop that we know: data in memory, batches by one gather, a fused optimizer, no waiting."""

import torch
from task import OPTIMIZER, Stopwatch, Task
from torch.nn import functional as F


def train(task: Task, watch: Stopwatch) -> None:
    images, labels = task.tensors()
    network = task.network().train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **OPTIMIZER)
    for _ in range(task.epochs):
        order = torch.randperm(len(labels))
        for index in order.split(task.batch_size)[: len(labels) // task.batch_size]:
            batch, truth = images.index_select(0, index), labels.index_select(0, index)
            loss = F.cross_entropy(network(task.normalize(batch)), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
