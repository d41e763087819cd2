"""skorch with arrays of texts that are all filled up to the same length, for it knows no batches of like length."""
# pyright: reportMissingImports=false, reportCallIssue=false

from task import Stopwatch
from texts import TextTask

from contestants import skorch

DISTRIBUTION = "skorch"


def train(task: TextTask, watch: Stopwatch) -> None:
    tokens, _, classes = task.part()
    skorch.classifier(task).fit(tokens.numpy(), classes.numpy())
