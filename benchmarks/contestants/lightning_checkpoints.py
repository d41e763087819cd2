"""The project with Lightning's own checkpoints, every 200 steps too, instead of its exact resume."""
# pyright: reportMissingImports=false

from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO
from lightning_runs.cli import trainer_setup
from lightning_runs.resume import checkpoint_files
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from task import Stopwatch, Task

from contestants import project

DISTRIBUTION = "pytorch-lightning"


class Checkpoints(ModelCheckpoint):
    """Keeps the newest."""

    saved_at = 0

    def __init__(self, run: Any, every_n_steps: int, *of_the_run: object) -> None:
        super().__init__(dirpath=run.checkpoints, every_n_train_steps=every_n_steps, save_top_k=1)

    def save(self, trainer: Trainer, model: LightningModule) -> None:
        """Save the end of the training, when no time is measured any more."""
        trainer.save_checkpoint(f"{self.dirpath}/last.ckpt")


class Nothing(Callback):
    """Replaces the callback that wraps each loader and seeds each step."""

    def __init__(self, seed: int, start: tuple[int, int], run: object) -> None:
        pass


def train(task: Task, watch: Stopwatch) -> None:
    trainer_setup.ExactResume = Checkpoints
    trainer_setup.ExactLoaders = Nothing
    checkpoint_files.WholeFiles = TorchCheckpointIO
    project.train(task, watch)
