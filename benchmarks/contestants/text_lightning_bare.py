"""Lightning stripped of everything, as for the images, with the optimal loop's batches of texts."""

from collections.abc import Iterator

from task import SavedTask, Stopwatch
from texts import TextTask
from torch import Tensor

from contestants import lightning_bare

DISTRIBUTION = "pytorch-lightning"


class Batches:
    """The optimal loop's batches."""

    def __init__(self, task: SavedTask) -> None:
        self.task = task

    def __len__(self) -> int:
        return self.task.count // self.task.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.task.batches()


def train(task: TextTask, watch: Stopwatch) -> None:
    lightning_bare.fit(task, lightning_bare.Classifier(task.network(), watch), Batches(task))
