"""The usual hand-written loop, as in PyTorch's MNIST example: transforms for each image, the loss read each step."""

import torch
from task import OPTIMIZER, Stopwatch, Task
from torch.nn import functional as F


def train(task: Task, watch: Stopwatch) -> None:
    loader = task.loader()
    network = task.network()
    optimizer = torch.optim.AdamW(network.parameters(), **OPTIMIZER)
    for epoch in range(task.epochs):
        network.train()
        running_loss = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(f"epoch {epoch}: loss {running_loss / len(loader):.4f}")
