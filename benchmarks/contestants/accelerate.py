"""Hugging Face Accelerate as its documentation has it."""
# pyright: reportMissingImports=false

from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of
from torch.nn.functional import cross_entropy


def train(task: Task) -> dict:
    from accelerate import Accelerator

    accelerator, watch, network = Accelerator(cpu=True), Stopwatch(), network_of(task)
    network, optimizer, loader = accelerator.prepare(network, optimizer_of(task, network), documented_loader(task))
    for _ in range(task.epochs):
        watch.epoch()
        for images, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(cross_entropy(network(images), labels))
            optimizer.step()
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
