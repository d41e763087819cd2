"""The optimal loop of the images, on scenes with masks in memory, with the channels last."""

import torch
from masks import Loss, MaskTask
from task import OPTIMIZER, Stopwatch


def train(task: MaskTask, watch: Stopwatch) -> None:
    network = task.network().train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **OPTIMIZER)
    loss_of = Loss()
    for _ in range(task.epochs):
        for images, masks in task.batches():
            loss = loss_of(network(images), masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
