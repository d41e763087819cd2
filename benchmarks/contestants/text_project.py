"""The baked project of texts by its own command line, as project.py does it for images."""

from task import PACKAGE, Stopwatch
from texts import TextTask

from contestants import table_project

DISTRIBUTION = "pytorch-lightning"


def train(task: TextTask, watch: Stopwatch) -> None:
    table_project.fit(task, watch, **{"model.network": f"{PACKAGE}.network.{task.model}"})
