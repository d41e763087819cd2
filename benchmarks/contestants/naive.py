"""The loop of many tutorials: transforms per image, and the loss read in each step."""

from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of
from torch.nn.functional import cross_entropy


def train(task: Task) -> dict:
    loader, network = documented_loader(task), network_of(task)
    optimizer = optimizer_of(task, network)
    watch = Stopwatch()
    for _ in range(task.epochs):
        watch.epoch()
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
