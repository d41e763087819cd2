"""What every contestant is given, the task, and how it is timed, the stopwatch; neither needs Lightning."""

import copy
import functools
import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

PACKAGE = "my_lightning_project"
# The optimizer of all of them, with a constant learning rate; whether it is fused is a contestant's own choice.
OPTIMIZER: dict[str, Any] = {"lr": 0.003, "weight_decay": 0.01}
# Mean and standard deviation by which the project normalises the pixels of these data sets.
STATISTICS = {"mnist": (0.1307, 0.3081), "digits": (0.3055, 0.3765), "digit_scenes": (0.2792, 0.1652)}


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        contestant: Module in `contestants`.
        model: Class in the baked project's ``network.py``.
        dataset: ``mnist`` or ``digits``, as the project calls it.
        root: Folder with the data set in MNIST's format; below ``trained_on`` the images that the project trains on.
        batch_size: Images per step; what does not fill a batch is left out.
        epochs: Passes over the training images.
        threads: Threads of torch's operations.
        seed: Seed of weights, order and dropout.
        project: Folder of the baked project.
        folder: Where the contestant may write.
    """

    contestant: str
    model: str
    dataset: str
    root: str
    batch_size: int
    epochs: int
    threads: int
    seed: int
    project: str
    folder: str

    @property
    def count(self) -> int:
        """Number of items that are trained on."""
        return len(self.mnist())

    def mnist(self, train: bool = True, transform: Any = None) -> datasets.MNIST:
        """Images that are trained on, or those of the test, as torchvision's MNIST."""
        return datasets.MNIST(str(Path(self.root) / "trained_on"), train=train, transform=transform)

    def tensors(self, train: bool = True) -> tuple[Tensor, Tensor]:
        """Images ``(N, 1, H, W)`` uint8 and labels ``(N,)`` int64, in memory."""
        source = self.mnist(train)
        return source.data[:, None].contiguous(), source.targets

    def normalize(self, images: Tensor) -> Tensor:
        """Map uint8 images to float with mean 0 and standard deviation 1, as the project does."""
        mean, std = STATISTICS[self.dataset]
        return images.float().sub_(255 * mean).div_(255 * std)

    def loader(self) -> DataLoader:
        """Loader of single images through torchvision's transforms, as in the documentations' MNIST examples."""
        mean, std = STATISTICS[self.dataset]
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (std,))])
        return DataLoader(self.mnist(transform=transform), batch_size=self.batch_size, shuffle=True, drop_last=True)

    @property
    def network_class(self) -> type[nn.Module]:
        """The class of the network, from the baked project."""
        return getattr(importlib.import_module(f"{PACKAGE}.network"), self.model)

    def network(self) -> nn.Module:
        """A new network."""
        height, width = self.mnist().data.shape[1:]
        return self.network_class((1, height, width), 10)

    def test_accuracy(self, network: nn.Module) -> float:
        """Fraction of the test images that are classified correctly."""
        images, labels = self.tensors(train=False)
        network.eval()
        with torch.inference_mode():
            hits = sum(
                (network(self.normalize(part)).argmax(1) == truth).sum().item()
                for part, truth in zip(images.split(512), labels.split(512), strict=True)
            )
        return hits / len(labels)


class SavedTask(Task):
    """A training on what the project's data module has made of its data; ``root`` is the file with the tensors."""

    @functools.cached_property
    def saved(self) -> dict[str, Any]:
        """Tensors of the parts ``train`` and ``test``, and ``sizes``, the arguments of the network."""
        return torch.load(self.root, weights_only=True)

    @property
    def count(self) -> int:
        return len(self.saved["train"][0])

    def part(self, train: bool = True) -> list[Tensor]:
        """The tensors of the training data, or those of the test, in memory."""
        return self.saved["train" if train else "test"]


def fit_options(task: Task, **more: object) -> list[str]:
    """The project's command line for a task: what all contestants share, and more options by their dotted names."""
    values = {
        "seed_everything": task.seed,
        "logger": "csv",
        "data.dataset": task.dataset,
        "data.root": task.root,
        "data.batch_size": task.batch_size,
        "model.optimizer": "torch.optim.AdamW",
        "model.optimizer.init_args.fused": "true",
        **{f"model.optimizer.init_args.{name}": value for name, value in OPTIMIZER.items()},
        "model.scheduler": "null",
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": task.epochs,
        "trainer.default_root_dir": f"{task.folder}/runs",
        **more,
    }
    return ["fit", *(f"--{name}={value}" for name, value in values.items())]


class Stopwatch:
    """Time from the end of the warm-up to the end of the training, and the images of that time.

    It counts the calls of the network in training mode, the same two lines of Python for all contestants, and adds no
    callback: Lightning would spend time on it in every step.

    Args:
        network_class: The class whose calls are counted.
        warmup_steps: Steps before the time begins.
    """

    def __init__(self, network_class: type[nn.Module], warmup_steps: int) -> None:
        self.steps = self.samples = 0
        self.network: nn.Module | None = None
        self._begin = self._end = self._left_out = 0.0
        self._samples_before = 0
        forward = network_class.forward

        def counted(network: nn.Module, *inputs: Tensor, **named: Tensor) -> Tensor:
            if network.training:
                if self.steps == warmup_steps:
                    self._begin, self._samples_before, self.network = time.perf_counter(), self.samples, network
                self.steps += 1
                self.samples += len(inputs[0] if inputs else next(iter(named.values())))
            return forward(network, *inputs, **named)

        network_class.forward = counted

    def paused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the time of a function out, such as validation."""

        @functools.wraps(function)
        def left_out(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                if self._begin and not self._end:
                    self._left_out += time.perf_counter() - begin

        return left_out

    def stop(self) -> None:
        """End the time, unless it has ended, and keep a copy of the network as it is now."""
        if not self._end:
            self._end = time.perf_counter()
            assert self.network is not None, "fewer steps than the warm-up has"
            self.network = copy.deepcopy(self.network)

    def result(self) -> dict[str, float]:
        """What was measured."""
        assert self.network is not None
        seconds = self._end - self._begin - self._left_out
        timed = self.samples - self._samples_before
        return {
            "samples": self.samples,
            "timed_samples": timed,
            "seconds": seconds,
            "samples_per_second": timed / seconds,
            "parameters": sum(math.prod(parameter.shape) for parameter in self.network.parameters()),
        }
