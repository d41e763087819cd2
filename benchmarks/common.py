"""What all contestants share: the task, the data, and how an epoch is timed.

A contestant is a process: ``python benchmarks/contestants/NAME.py TASK``, with the task as JSON, that prints its result
as JSON in its last line.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS_TO_WARM_UP = 1

if Path(sys.path[0]).name == "contestants":  # whose files are named after the frameworks, and must not hide them
    sys.path.append(sys.path.pop(0))


@dataclass
class Task:
    """What is trained.

    Args:
        package: Import name of the baked project, whose networks are used.
        network: ``ConvNet`` or ``DenseNet``.
        dataset: ``mnist``, in that format, or ``digits``.
        root: Folder with the files.
        batch_size: Images per step.
        epochs: Epochs in all; the first one is not timed.
        threads: Of torch, in each operation.
        seed: Of the weights and the order.
        lr: Learning rate of AdamW.
    """

    package: str
    network: str = "DenseNet"
    dataset: str = "mnist"
    root: str = "data"
    batch_size: int = 64
    epochs: int = 3
    threads: int = 1
    seed: int = 0
    lr: float = 0.001

    def to_json(self) -> str:
        """Give the task as an argument of a process."""
        return json.dumps(asdict(self))


def main(train: Callable[[Task], dict[str, Any]]) -> None:
    """Carry out the task in the first argument and print the result with the peak memory."""
    import torch

    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    result = train(task)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(result | {"peak_mb": kilobytes / 1024}), flush=True)


class Stopwatch:
    """Seconds of whole epochs, from one epoch's start to the next one's, without what is paused (validation)."""

    def __init__(self) -> None:
        """Start with no epoch."""
        self.epochs: list[float] = []
        self._start: float | None = None
        self._pause = 0.0

    def epoch(self) -> None:
        """An epoch begins, or the last one has ended."""
        now = time.perf_counter()
        if self._start is not None:
            self.epochs.append(now - self._start - self._pause)
        self._start, self._pause = now, 0.0

    def paused(self, seconds: float) -> None:
        """Leave seconds out of the epoch."""
        self._pause += seconds

    def result(self, samples: int, parameters: int, correct: float) -> dict[str, Any]:
        """Sum up.

        Args:
            samples: Images in an epoch.
            parameters: Of the network.
            correct: Fraction of the test images that are classified correctly.
        """
        timed = self.epochs[EPOCHS_TO_WARM_UP:]
        return {
            "samples": samples,
            "samples_per_second": samples * len(timed) / sum(timed),
            "parameters": parameters,
            "accuracy": correct,
        }


def data_of(task: Task) -> Any:
    """The project's DataModule with the task's data, read and split."""
    from importlib import import_module

    data = import_module(f"{task.package}.data").DataModule(task.dataset, root=task.root, augment=False)
    data.setup("fit")
    return data


def network_of(task: Task) -> Any:
    """A new network."""
    from importlib import import_module

    shape, classes = ((1, 28, 28), 10) if task.dataset == "mnist" else ((1, 8, 8), 10)
    return getattr(import_module(f"{task.package}.network"), task.network)(shape, classes)


def optimizer_of(task: Task, network: Any, fused: bool = False) -> Any:
    """The optimizer that all use; the fused implementation only where a user would have had to ask for it."""
    import torch

    return torch.optim.AdamW(network.parameters(), lr=task.lr, weight_decay=0.01, fused=fused or None)


def documented_loader(task: Task) -> Any:
    """Training images as the documentation of most frameworks has them: transforms per image and a DataLoader."""
    import torch
    from torchvision import transforms

    class Images(torch.utils.data.Dataset):
        """What torchvision's MNIST does: a PIL image, then its transforms."""

        def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: Any) -> None:
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            from PIL import Image

            picture = Image.fromarray(self.images[index, 0].numpy())
            return self.transform(picture), int(self.labels[index])

    data = data_of(task)
    images, indices = data.splits["train"]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.facts.mean, data.facts.std)])
    dataset = Images(images.images[indices], images.labels[indices], transform)
    return torch.utils.data.DataLoader(dataset, batch_size=task.batch_size, shuffle=True, drop_last=True)


def accuracy_of(task: Task, network: Any) -> float:
    """Fraction of the test images that the network classifies correctly."""
    import torch

    data = data_of(task)
    test, indices = data.splits["test"]
    network.eval()
    with torch.no_grad():
        correct = [
            (network(data.normalize(images)).argmax(dim=1) == labels).sum().item()
            for images, labels in (test[part] for part in indices.split(1000))
        ]
    return sum(correct) / len(indices)


def size_of(network: Any) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def write_mnist(root: Path, count: int) -> None:
    """Write images in MNIST's format: a bright bar whose place is the label, in noise."""
    random = np.random.default_rng(0)
    for part, number in (("train", count), ("t10k", 1000)):
        labels = random.integers(0, 10, number)
        images = random.integers(0, 150, (number, 28, 28))
        for label in range(10):
            images[labels == label, 2 * label + 3 : 2 * label + 6, 4:24] += 60
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            file = root / "MNIST" / "raw" / f"{part}-{name}-ubyte"
            file.parent.mkdir(parents=True, exist_ok=True)
            header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
            file.write_bytes(header + array.astype(np.uint8).tobytes())
