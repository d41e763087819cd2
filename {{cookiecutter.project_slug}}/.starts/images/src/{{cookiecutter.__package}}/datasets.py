"""The six data sets: what is known of each (`FACTS`, at the end), and how its files are read."""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lightning_runs.errors import UserError, reason
from lightning_runs.images.reading import read_image
from torch import Tensor
from torch.utils.data import Dataset

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before it is read."""

    source: str  # what the images are and who made them, for the files that `export` writes
    shape: Shape  # channels, height and width of an image
    mean: tuple[float, ...]  # of the pixels of the training images, for each channel, 0 to 1
    std: tuple[float, ...]  # standard deviation of the same
    class_names: tuple[str, ...]  # in the order of the labels
    flip: bool = False  # whether the mirror image of an image is of the same class
    torchvision: str | None = None  # the class of torchvision.datasets that downloads and reads it
    read: Callable[[Path, str], tuple[Tensor, Tensor]] | None = None  # or what reads images and labels of a part


class ImageTensors(Dataset):
    """Images ``(N, C, H, W)`` uint8 in memory with labels ``(N,)`` int64; a batch is gathered in one operation."""

    draws_nothing = True  # no random numbers, so batches need no seed

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        # eight times as fast as `images[indices]`
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def version(self) -> bytes:
        """Return bytes that change when an image changes."""
        return self.images.numpy().tobytes()


class ImageFiles(Dataset):
    """Images that stay on disk, read when their batch is due.

    Args:
        files: The image files.
        labels: Their labels, ``(N,)`` int64.
        shape: Channels, height and width that each image is brought to.
        skip_corrupt: Leave out a file that can't be read, and name it once; otherwise it is an error.
        cache: Keep what has been read in memory, for the next epoch.
    """

    draws_nothing = True

    def __init__(
        self, files: list[Path], labels: Tensor, shape: Shape, skip_corrupt: bool = False, cache: bool = False
    ) -> None:
        self.files, self.labels = files, labels
        self.shape, self.skip_corrupt = shape, skip_corrupt
        # Memory that forked worker processes share. Not in /dev/shm, where torch would put it and which may be small;
        # pages are taken as they are filled. Of known files, 1 is in memory, and 2 was left out and named.
        sizes = len(files), len(files) * math.prod(shape) if cache else 1
        self.known, images = (torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8) for size in sizes)
        self.cached: Tensor | None = images.view(len(files), *shape) if cache else None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"cached": None}  # a process that is not forked has no part in the memory

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if self.cached is not None and bool((self.known[indices] == 1).all()):
            return self.cached.index_select(0, indices), self.labels[indices]
        found = [(index, image) for index in indices.tolist() if (image := self._read(index)) is not None]
        if not found:
            first = self.files[indices[0]]
            raise UserError(f"none of the {len(indices)} images of a batch can be read; the first is {first}.")
        kept, images = zip(*found, strict=True)
        return torch.stack(images), self.labels[list(kept)]

    def _read(self, index: int) -> Tensor | None:
        """Read an image; None where it can't be read and is left out."""
        try:
            image = torch.from_numpy(read_image(self.files[index], self.shape))
        except Exception as error:  # decoders raise errors of many types
            text = f"{self.files[index]} can't be read as an image: {reason(error)}."
            if not self.skip_corrupt:
                raise UserError(f"{text} Replace it, or leave such files out with --data.skip_corrupt true.") from error
            if self.known[index] != 2:
                self.known[index] = 2
                warnings.warn(f"{text} It is left out.", stacklevel=2)
            return None
        if self.cached is not None:
            self.cached[index], self.known[index] = image, 1
        return image

    def readable(self, indices: Tensor) -> Tensor:
        """Return those of the indices whose images can be read."""
        with ThreadPoolExecutor() as pool:
            return indices[list(pool.map(lambda index: self._read(index) is not None, indices.tolist()))]

    def version(self) -> bytes:
        """Return bytes that change when a file is replaced: names, sizes in bytes and times of change."""
        return "\n".join(f"{f} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in self.files).encode()


def load_tensors(dataset: str, root: Path) -> dict[str, ImageTensors]:
    """Read the parts ``train`` and ``test`` of a data set into memory, and refuse what is not as it should be."""
    facts, parts = FACTS[dataset], {}
    for part in ("train", "test"):
        if facts.read:
            images, labels = facts.read(root, part)
        else:
            source = open_torchvision(dataset, root, part, download=False)
            images, labels = torch.as_tensor(source.data), torch.as_tensor(source.targets)
            images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images  # those of colours are (N, H, W, C)
        name = f"the {part} part of {dataset} in {root}"
        parts[part] = ImageTensors(*_checked(images, labels, facts, name, name))
    return parts


def _checked(images: Tensor, labels: Tensor, facts: Facts, name: str, label_name: str) -> tuple[Tensor, Tensor]:
    """Refuse images and labels that do not fit, and bring them to ``(N, C, H, W)`` uint8 and ``(N,)`` int64."""
    if len(images) == 0 or images[0].numel() != math.prod(facts.shape):
        expected = ", ".join(str(size) for size in facts.shape)
        raise UserError(f"{name} has images of shape {tuple(images.shape)}; they must be (N, {expected}).")
    if tuple(labels.shape) != (len(images),):
        given = f"labels of shape {tuple(labels.shape)} for {len(images)} images"
        raise UserError(f"{label_name} has {given}; each needs one label.")
    low, high, num_classes = labels.min().item(), labels.max().item(), len(facts.class_names)
    if labels.is_floating_point() or low < 0 or high >= num_classes:
        given = f"labels of type {labels.dtype} from {low} to {high}"
        raise UserError(f"{label_name} has {given}; they must be whole numbers from 0 to {num_classes - 1}.")
    if images.dtype != torch.uint8:
        low, high = images.min().item(), images.max().item()
        if not (images.is_floating_point() and low >= 0 and high <= 1):
            given = f"pixels of type {images.dtype} from {low:.3g} to {high:.3g}"
            raise UserError(f"{name} has {given}; they must be uint8, or floats from 0 to 1 that are not normalised.")
        images = images.mul(255).round_().byte()
    return images.reshape(-1, *facts.shape).contiguous(), labels.long()


def open_torchvision(dataset: str, root: Path, part: str, download: bool) -> Any:
    """Open a data set of torchvision; with ``download``, it is downloaded where it is not there."""
    from torchvision import datasets

    try:
        return getattr(datasets, str(FACTS[dataset].torchvision))(str(root), train=part == "train", download=download)
    except Exception as error:  # URLError, RuntimeError, OSError: whatever the download or the files raise
        raise UserError(
            f"{dataset} could not be read from {root} or downloaded: {' '.join(str(error).split())[:200]}\n"
            "Put its files there (--data.root names another folder) and remove damaged ones, or take --data.dataset"
            " digits, which needs none."
        ) from error


def _read_digits(root: Path, part: str) -> tuple[Tensor, Tensor]:
    file = Path(__file__).with_name("digits.npz")
    try:
        with np.load(file) as arrays:
            return torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"])
    except Exception as error:  # of the file system, of a zip file, or of NumPy, which executes nothing that it holds
        raise UserError(f"{file} can't be read: {reason(error)}.") from error


def _read_corrupt_mnist(root: Path, part: str) -> tuple[Tensor, Tensor]:
    ends = [f"_{i}" for i in range(len(list(root.glob("train_images_*.pt"))) or 1)] if part == "train" else [""]
    parts = []
    for end in ends:
        files = root / f"{part}_images{end}.pt", root / f"{part}_target{end}.pt"
        images, labels = (_load_tensor(file) for file in files)
        parts.append(_checked(images, labels, FACTS["corrupt_mnist"], *map(str, files)))
    images, labels = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(labels)


def _load_tensor(file: Path) -> Tensor:
    try:
        tensor = torch.load(file, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{file} is missing: data.root must be the folder with the corrupt MNIST files.\n"
            f"Make one from MNIST with: python scripts/make_corrupt_mnist.py --output {file.parent}"
        ) from error
    except Exception as error:
        raise UserError(f"{file} can't be read as a tensor: {reason(error)}.") from error
    if not (isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"):
        raise UserError(f"{file} holds no plain tensor, but a value of type {type(tensor).__name__}.")
    if (held := tensor.untyped_storage().nbytes()) < tensor.nbytes:  # the same few bytes, many times over
        raise UserError(f"{file} declares {tensor.nbytes:,} bytes and holds {held:,}.")
    return tensor


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
# A data set of your own is one entry more, with a function that reads it.
FACTS = {
    "digits": Facts(
        source="1,797 handwritten digits of 8x8 pixels by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,"
        " https://doi.org/10.24432/C50P49, CC BY 4.0; grey levels were brought from 0-16 to 0-255",
        shape=(1, 8, 8),
        mean=(0.3055,),
        std=(0.3765,),
        class_names=_DIGITS,
        read=_read_digits,
    ),
    "mnist": Facts(
        source="MNIST, 70,000 handwritten digits of 28x28 pixels by Y. LeCun, C. Cortes and C. Burges",
        shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        class_names=_DIGITS,
        torchvision="MNIST",
    ),
    "fashion_mnist": Facts(
        source="Fashion-MNIST, 70,000 pieces of clothing of 28x28 pixels by Zalando Research, MIT licence",
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        class_names=_CLOTHES,
        flip=True,
        torchvision="FashionMNIST",
    ),
    "cifar10": Facts(
        source="CIFAR-10, 60,000 photographs of 32x32 pixels by A. Krizhevsky, V. Nair and G. Hinton",
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        flip=True,
        torchvision="CIFAR10",
    ),
    "corrupt_mnist": Facts(
        source="MNIST, rotated at random, 28x28 pixels",
        shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        class_names=_DIGITS,
        read=_read_corrupt_mnist,
    ),
    "image_folder": Facts(
        source="images of the author's own, in a folder for each class",
        shape=(3, 0, 0),  # the size is an option, and the folders are the classes
        mean=(0.485, 0.456, 0.406),  # of ImageNet
        std=(0.229, 0.224, 0.225),
        class_names=(),
        flip=True,
    ),
}
if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[*FACTS]  # what --data.dataset may be
