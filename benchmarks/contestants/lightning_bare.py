"""PyTorch Lightning with everything switched off that can be, and data in memory: the least that it costs."""

import os

os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
import logging

import pytorch_lightning as pl
from common import Task, accuracy_of, data_of, main, network_of, optimizer_of, size_of
from lightning_docs import _Timer
from torch import randperm
from torch.nn.functional import cross_entropy


class Classifier(pl.LightningModule):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.network = task, network_of(task)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return optimizer_of(self.task, self.network, fused=True)


class Batches:
    """Normalised batches, gathered by index."""

    def __init__(self, task: Task) -> None:
        data = data_of(task)
        self.dataset, self.indices = data.splits["train"]
        self.mean, self.std = data._mean_and_std(self.dataset.images)
        self.size, self.steps = task.batch_size, len(self.indices) // task.batch_size

    def __len__(self):
        return self.steps

    def __iter__(self):
        order = self.indices[randperm(len(self.indices))]
        for batch in order.split(self.size)[: self.steps]:
            yield self.dataset.images[batch].float().sub_(self.mean).div_(self.std), self.dataset.labels[batch]


def train(task: Task) -> dict:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    batches, module = Batches(task), Classifier(task)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    timer = _Timer()
    trainer = pl.Trainer(max_epochs=task.epochs + 1, accelerator="cpu", callbacks=[timer], **off)
    trainer.fit(module, batches)
    samples = len(batches) * task.batch_size
    return timer.watch.result(samples, size_of(module.network), accuracy_of(task, module.network))


if __name__ == "__main__":
    main(train)
