"""skorch with arrays of normalised scenes and masks, as its U-Net notebook has them, without its default validation."""
# pyright: reportMissingImports=false, reportCallIssue=false

from masks import Loss, MaskTask
from skorch import NeuralNet
from task import Stopwatch

from contestants import skorch

DISTRIBUTION = "skorch"


def train(task: MaskTask, watch: Stopwatch) -> None:
    images, masks = task.part()
    skorch.classifier(task, Loss, NeuralNet).fit(task.normalize(images).numpy(), masks.numpy())
