"""Lightning stripped of everything, as for the images, with the optimal loop's batches of a table."""

from collections.abc import Iterator

import torch
from tables import Loss, TableTask
from task import Stopwatch
from torch import Tensor

from contestants import lightning_bare

DISTRIBUTION = "pytorch-lightning"


class Batches:
    """The optimal loop's batches."""

    def __init__(self, task: TableTask) -> None:
        self.tensors = task.rows()
        self.batch_size = task.batch_size

    def __len__(self) -> int:
        return len(self.tensors[0]) // self.batch_size

    def __iter__(self) -> Iterator[list[Tensor]]:
        for index in torch.randperm(len(self.tensors[0])).split(self.batch_size)[: len(self)]:
            yield [tensor.index_select(0, index) for tensor in self.tensors]


class Classifier(lightning_bare.Classifier):
    """Nothing but the loss."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        numbers, words, classes = batch
        return Loss()(self.network(numbers, words), classes)


def train(task: TableTask, watch: Stopwatch) -> None:
    lightning_bare.fit(task, Classifier(task.network(), watch), Batches(task))
