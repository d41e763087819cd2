"""The optimal loop of the images, on a table in memory."""

import torch
from tables import Loss, TableTask
from task import OPTIMIZER, Stopwatch


def train(task: TableTask, watch: Stopwatch) -> None:
    numbers, words, classes = task.rows()
    network = task.network().train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **OPTIMIZER)
    loss_of = Loss()
    for _ in range(task.epochs):
        order = torch.randperm(len(classes))
        for index in order.split(task.batch_size)[: len(classes) // task.batch_size]:
            logits = network(numbers.index_select(0, index), words.index_select(0, index))
            loss = loss_of(logits, classes.index_select(0, index))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
