"""The texts of the benchmark, the bundled ones as the project's tokenizer has encoded them, and the task on them."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from task import PACKAGE, SavedTask
from torch import Tensor, nn

POOL = 50  # batches that are sorted by length at a time, as the project does


def write_tensors(file: str) -> None:
    """Write what the project's data module makes of the texts, with its split, for all contestants."""
    data = importlib.import_module(f"{PACKAGE}.data").DataModule()
    data.setup("fit")
    parts: dict[str, Any] = {}
    for part in ("train", "test"):
        texts, indices = data.splits[part]
        parts[part] = [of[indices] for of in (texts.tensors[0].long(), texts.lengths, texts.labels)]
    torch.save({**parts, "sizes": [data.vocabulary_size, data.num_classes]}, file)


class TextTask(SavedTask):
    """One training on the texts.

    A part has tokens ``(N, L)`` int64, filled up with 0, their lengths ``(N,)`` and classes ``(N,)``.
    """

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens and classes of an epoch, in whole batches of like length; each is as wide as its longest text."""
        tokens, lengths, classes = self.part()
        order = torch.randperm(self.count)[: self.count // self.batch_size * self.batch_size]
        pools = order.split(POOL * self.batch_size)
        batches = [index for of in pools for index in of[lengths[of].argsort()].split(self.batch_size)]
        for i in torch.randperm(len(batches)).tolist():
            width = int(lengths[batches[i]].max())
            yield tokens[:, :width].index_select(0, batches[i]), classes.index_select(0, batches[i])

    def network(self) -> nn.Module:
        return self.network_class(*self.saved["sizes"])

    def test_accuracy(self, network: nn.Module) -> float:
        tokens, _, classes = self.part(train=False)
        network.eval()
        with torch.inference_mode():
            return (network(tokens).argmax(1) == classes).float().mean().item()


if __name__ == "__main__":
    write_tensors(sys.argv[1])
