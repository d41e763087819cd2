"""Lightning stripped of everything, as for the images, with the optimal loop's batches of scenes with masks."""

import os
from collections.abc import Iterator

import pytorch_lightning as pl
from masks import Loss, MaskTask
from task import Stopwatch
from torch import Tensor

from contestants import lightning_bare

DISTRIBUTION = "pytorch-lightning"


class Batches:
    """The optimal loop's batches."""

    def __init__(self, task: MaskTask) -> None:
        self.task = task

    def __len__(self) -> int:
        return self.task.count // self.task.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.task.batches()


class Segmenter(lightning_bare.Classifier):
    """Nothing but the loss."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, masks = batch
        return Loss()(self.network(images), masks)


def train(task: MaskTask, watch: Stopwatch) -> None:
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # else each step asks the NVIDIA driver for GPUs
    trainer = pl.Trainer(max_epochs=task.epochs, accelerator="cpu", barebones=True)
    trainer.fit(Segmenter(task.network(), watch), Batches(task))
