"""Lightning stripped of everything: no logger, checkpoints, bar or callbacks, and the batches of the optimal loop."""

import os
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from task import OPTIMIZER, Stopwatch, Task
from torch import Tensor, nn
from torch.nn import functional as F

DISTRIBUTION = "pytorch-lightning"


class Batches:
    """The optimal loop's batches."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.images, self.labels = task.tensors()

    def __len__(self) -> int:
        return len(self.labels) // self.task.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(self.labels)).split(self.task.batch_size)[: len(self)]:
            yield self.task.normalize(self.images.index_select(0, index)), self.labels.index_select(0, index)


class Classifier(pl.LightningModule):
    """Nothing but the loss."""

    def __init__(self, network: nn.Module, watch: Stopwatch) -> None:
        super().__init__()
        self.network = network
        self.watch = watch

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), fused=True, **OPTIMIZER)

    def on_train_end(self) -> None:
        self.watch.stop()


def fit(task: Task, module: pl.LightningModule, batches: Any) -> None:
    """Train without anything beside the loop."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # else each step asks the NVIDIA driver for GPUs
    pl.Trainer(max_epochs=task.epochs, accelerator="cpu", barebones=True).fit(module, batches)


def train(task: Task, watch: Stopwatch) -> None:
    fit(task, Classifier(task.network(), watch), Batches(task))
