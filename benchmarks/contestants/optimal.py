"""The best that a loop written by hand can do on a CPU: data in memory, one gather per batch, nothing else per step."""

from common import Stopwatch, Task, accuracy_of, data_of, main, network_of, optimizer_of, size_of
from torch import randperm
from torch.nn.functional import cross_entropy


def train(task: Task) -> dict:
    data = data_of(task)
    dataset, indices = data.splits["train"]
    images, labels = dataset.images, dataset.labels
    network = network_of(task)
    optimizer = optimizer_of(task, network, fused=True)
    mean, std = data._mean_and_std(images)
    steps = len(indices) // task.batch_size
    watch = Stopwatch()
    for _ in range(task.epochs):
        watch.epoch()
        network.train()
        for batch in indices[randperm(len(indices))].split(task.batch_size)[:steps]:
            loss = cross_entropy(network(images[batch].float().sub_(mean).div_(std)), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    watch.epoch()
    return watch.result(steps * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
