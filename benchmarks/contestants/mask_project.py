"""The baked project of scenes with masks by its own command line, as project.py does it for images."""

from masks import MaskTask
from task import PACKAGE, Stopwatch

from contestants import table_project

DISTRIBUTION = "pytorch-lightning"


def train(task: MaskTask, watch: Stopwatch) -> None:
    table_project.fit(task, watch, **{"model.network": f"{PACKAGE}.network.{task.model}", "data.augment": "none"})
