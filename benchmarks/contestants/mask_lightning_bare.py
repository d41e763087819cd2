"""Lightning stripped of everything, as for the images, with the optimal loop's batches of scenes with masks."""

from masks import Loss, MaskTask
from task import Stopwatch
from torch import Tensor

from contestants import lightning_bare, text_lightning_bare

DISTRIBUTION = "pytorch-lightning"


class Segmenter(lightning_bare.Classifier):
    """Nothing but the loss."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, masks = batch
        return Loss()(self.network(images), masks)


def train(task: MaskTask, watch: Stopwatch) -> None:
    lightning_bare.fit(task, Segmenter(task.network(), watch), text_lightning_bare.Batches(task))
