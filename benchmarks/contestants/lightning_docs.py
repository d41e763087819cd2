"""Lightning as in its documentation, "Lightning in 15 minutes": MNIST, a Trainer as it comes, one `self.log` a step."""

import pytorch_lightning as pl
import torch
from task import OPTIMIZER, Stopwatch, Task
from torch import Tensor, nn
from torch.nn import functional as F

DISTRIBUTION = "pytorch-lightning"


class LitClassifier(pl.LightningModule):
    """The documentation's module, with a classifier in the place of its autoencoder."""

    def __init__(self, network: nn.Module, watch: Stopwatch) -> None:
        super().__init__()
        self.network = network
        self.watch = watch

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), **OPTIMIZER)

    def on_train_end(self) -> None:
        self.watch.stop()


def train(task: Task, watch: Stopwatch) -> None:
    trainer = pl.Trainer(max_epochs=task.epochs, accelerator="cpu")
    trainer.fit(LitClassifier(task.network(), watch), task.loader())
