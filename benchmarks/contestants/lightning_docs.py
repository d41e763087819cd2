"""PyTorch Lightning as its documentation's example has it: `self.log` in each step, default Trainer."""

import os
import tempfile

import pytorch_lightning as pl
from common import Task, accuracy_of, documented_loader, main, network_of, optimizer_of, size_of
from project import Timer
from torch.nn.functional import cross_entropy


class Classifier(pl.LightningModule):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.network = task, network_of(task)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return optimizer_of(self.task, self.network)


def train(task: Task) -> dict:
    loader, module = documented_loader(task), Classifier(task)
    output = os.dup(1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=task.epochs + 1, accelerator="cpu", default_root_dir=folder, callbacks=[_Timer()]
        )
        trainer.fit(module, loader)
    os.dup2(output, 1)
    samples = len(loader) * task.batch_size
    return Timer.watch.result(samples, size_of(module.network), accuracy_of(task, module.network))


class _Timer(Timer):
    def on_train_end(self, trainer, pl_module) -> None:
        """There is no DataModule to ask."""


if __name__ == "__main__":
    main(train)
