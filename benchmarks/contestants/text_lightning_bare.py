"""Lightning stripped of everything, as for the images, with the optimal loop's batches of texts."""

import os
from collections.abc import Iterator

import pytorch_lightning as pl
from task import Stopwatch
from texts import TextTask
from torch import Tensor

from contestants import lightning_bare

DISTRIBUTION = "pytorch-lightning"


class Batches:
    """The optimal loop's batches."""

    def __init__(self, task: TextTask) -> None:
        self.task = task

    def __len__(self) -> int:
        return self.task.count // self.task.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.task.batches()


def train(task: TextTask, watch: Stopwatch) -> None:
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # else each step asks the NVIDIA driver for GPUs
    trainer = pl.Trainer(max_epochs=task.epochs, accelerator="cpu", barebones=True)
    trainer.fit(lightning_bare.Classifier(task.network(), watch), Batches(task))
