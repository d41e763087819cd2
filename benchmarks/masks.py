"""The scenes with masks of the benchmark, those that the project makes of its digits, and the task on them."""

import importlib
import sys
from collections.abc import Iterator

import torch
from task import PACKAGE, SavedTask
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = 255  # a pixel without a class


def write_tensors(file: str) -> None:
    """Write the project's scenes, with its split, for all contestants."""
    data = importlib.import_module(f"{PACKAGE}.data").DataModule()
    data.setup("fit")
    parts = {}
    for part in ("train", "test"):
        pairs, indices = data.splits[part]
        images, masks = pairs[indices]
        parts[part] = [images, masks.long()]
    torch.save({**parts, "sizes": [data.input_shape, len(data.class_names)]}, file)


class Loss(nn.Module):
    """The project's loss: cross-entropy, and the Dice loss with the weight 0.5."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean; ``input`` is ``(B, C, H, W)``, and ``target`` ``(B, H, W)``."""
        has_class = target != IGNORED
        entropy = F.cross_entropy(input, target, ignore_index=IGNORED, reduction="sum") / has_class.sum().clamp_min(1)
        num_classes = input.shape[1]
        true = F.one_hot(target.where(has_class, num_classes), num_classes + 1)[..., :-1].movedim(3, 1).float()
        predicted = input.softmax(dim=1) * has_class[:, None]
        both, each = (of.sum(dim=(0, 2, 3)) for of in (true * predicted, true + predicted))
        return entropy + 0.5 * (1 - (2 * both + 1) / (each + 1)).mean()


class MaskTask(SavedTask):
    """One training on the scenes. A part has images ``(N, 1, H, W)`` uint8 and masks ``(N, H, W)`` int64."""

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and masks of an epoch, in whole batches."""
        images, masks = self.part()
        for index in torch.randperm(self.count).split(self.batch_size)[: self.count // self.batch_size]:
            batch = self.normalize(images.index_select(0, index))
            yield batch.contiguous(memory_format=torch.channels_last), masks.index_select(0, index)

    def network(self) -> nn.Module:
        shape, num_classes = self.saved["sizes"]
        return self.network_class(tuple(shape), num_classes).to(memory_format=torch.channels_last)

    def test_accuracy(self, network: nn.Module) -> float:
        images, masks = self.part(train=False)
        network.eval()
        with torch.inference_mode():
            return (network(self.normalize(images)).argmax(1) == masks).float().mean().item()


if __name__ == "__main__":
    write_tensors(sys.argv[1])
