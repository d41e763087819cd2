"""The project with Lightning's own checkpoints, every 200 steps too, in the place of its exact resume."""
# pyright: reportMissingImports=false

from pathlib import Path

from lightning_fabric.plugins import TorchCheckpointIO
from my_lightning_project import checkpoints, cli
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from task import Stopwatch, Task

from contestants import project

DISTRIBUTION = "pytorch-lightning"


class Checkpoints(ModelCheckpoint):
    """Keeps the newest."""

    trained = False  # so that the project does not save once more at the end

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        super().__init__(dirpath=folder, every_n_train_steps=every_n_steps, save_top_k=1)


class Nothing(Callback):
    """In the place of the seed of each step."""

    def __init__(self, seed: int) -> None:
        pass


def train(task: Task, watch: Stopwatch) -> None:
    cli.ExactResume, cli.SeedSteps, checkpoints.WholeFiles = Checkpoints, Nothing, TorchCheckpointIO
    project.train(task, watch)
