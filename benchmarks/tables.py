"""The benchmark's table, and the task that is trained on it; the project's reader turns it into numbers and words."""

import csv
import importlib
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from task import PACKAGE, Task
from torch import Tensor, nn

# Columns of numbers, and of words of so many kinds; the class depends on all of them.
NUM_NUMBERS = 10
KINDS = (5, 12, 40)
CLASSES = ("cedar", "larch", "maple", "poplar", "willow")


def write_csv(file: Path, count: int) -> None:
    """Write a table of that many rows, one number in twenty missing."""
    if file.is_file():
        return
    random = np.random.default_rng(0)
    numbers = random.normal(size=(count, NUM_NUMBERS))
    words = [random.integers(0, kinds, count) for kinds in KINDS]
    scores = np.tanh(numbers @ random.normal(size=(NUM_NUMBERS, 8))) @ random.normal(size=(8, len(CLASSES)))
    scores += sum(random.normal(size=(kinds, len(CLASSES)))[of] for kinds, of in zip(KINDS, words, strict=True))
    classes = (scores + random.normal(size=scores.shape)).argmax(axis=1)
    missing = random.random(numbers.shape) < 0.05
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".new")
    with unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        head = [f"number{i}" for i in range(NUM_NUMBERS)] + [f"word{i}" for i in range(len(KINDS))]
        writer.writerow([*head, "tree"])
        for i in range(count):
            row = ["" if gap else f"{x:.5f}" for x, gap in zip(numbers[i], missing[i], strict=True)]
            writer.writerow([*row, *(f"kind {of[i]}" for of in words), CLASSES[classes[i]]])
    unfinished.rename(file)


def write_tensors(file: Path) -> None:
    """Write what the project's data module makes of a table, with its split, for all contestants."""
    data_module, networks = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("data", "network"))
    data = data_module.DataModule(dataset="csv_file", root=str(file), target="tree")
    data.setup("fit")
    rows, _ = data.splits["train"]
    parts = {part: [tensor[data.splits[part][1]] for tensor in rows.tensors] for part in ("train", "test")}
    columns = networks.Standardize(data.facts["columns"])
    sizes = {name: getattr(columns, name) for name in ("num_numbers", "vocabulary_sizes")}
    sizes["num_outputs"] = len(data.class_names)
    torch.save({**parts, "sizes": sizes}, file.with_suffix(".pt"))


class Loss(nn.CrossEntropyLoss):
    """Cross-entropy of what the project's network gives in training: an output of each of its members for each row."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean; ``input`` is ``(B * members, C)``, and ``target`` ``(B,)``, of fastai int8."""
        return super().forward(input, target.long().repeat_interleave(len(input) // len(target)))


class TableTask(Task):
    """One training on the table; ``root`` is its file, with the tensors beside it."""

    @cached_property
    def _parts(self) -> dict[str, Any]:
        return torch.load(Path(self.root).with_suffix(".pt"), weights_only=True)

    @property
    def count(self) -> int:
        return len(self._parts["train"][0])

    def rows(self, train: bool = True) -> list[Tensor]:
        """Numbers ``(N, num_numbers)``, standardised, words ``(N, W)`` int64 and classes ``(N,)`` int64, in memory."""
        return self._parts["train" if train else "test"]

    def network(self) -> nn.Module:
        return self.network_class(**self._parts["sizes"])

    def test_accuracy(self, network: nn.Module) -> float:
        numbers, words, classes = self.rows(train=False)
        network.eval()
        with torch.inference_mode():
            return (network(numbers, words).argmax(1) == classes).float().mean().item()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_csv(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        write_tensors(Path(sys.argv[2]))
