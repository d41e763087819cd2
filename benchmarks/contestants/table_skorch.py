"""skorch with a dict of arrays, as its documentation has it for networks of several inputs; no validation."""
# pyright: reportMissingImports=false, reportCallIssue=false

from tables import Loss, TableTask
from task import Stopwatch

from contestants import skorch

DISTRIBUTION = "skorch"


def train(task: TableTask, watch: Stopwatch) -> None:
    numbers, words, classes = task.rows()
    skorch.classifier(task, Loss).fit({"numbers": numbers.numpy(), "words": words.numpy()}, classes.numpy())
