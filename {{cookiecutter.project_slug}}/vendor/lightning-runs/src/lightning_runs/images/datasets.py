"""Image data sets by name: what is known of each (`DATASETS`), and how its files are read."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ..data.batches import Items
from ..data.pictures import PictureSource
from ..errors import UserError, reason


def download_dataset(name: str, root: Path) -> None:
    """Download a data set's files that are not in ``root``; one process at a time does so."""
    if name not in DATASETS or DATASETS[name].torchvision is None:
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        for part in ("train", "test"):
            _open_torchvision(name, root, part, download=True)


def read_dataset(name: str, root: Path) -> dict[str, Items]:
    """Read the parts ``train`` and ``test`` of a data set into memory.

    Args:
        name: A name of `DATASETS`, but not image_folder.
        root: The folder with its files; of digits the file digits.npz.

    Returns:
        Of each part images ``(N, C, H, W)`` uint8 with labels ``(N,)`` int64.

    Raises:
        UserError: Files are missing, or not as they should be.
    """
    parts = {}
    for part in ("train", "test"):
        read = READERS.get(name, _read_torchvision)
        title = f"the {part} part of {name} in {root}"
        parts[part] = Items(*_checked(*read(name, root, part), DATASETS[name], title, title))
    return parts


def _read_torchvision(name: str, root: Path, part: str) -> tuple[Tensor, Tensor]:
    source = _open_torchvision(name, root, part, download=False)
    images = torch.as_tensor(source.data)
    if images.ndim == 4:  # colours come last, (N, H, W, C)
        images = images.permute(0, 3, 1, 2)
    return images, torch.as_tensor(source.targets)


def _open_torchvision(name: str, root: Path, part: str, download: bool) -> Any:
    from torchvision import datasets

    try:
        dataset_class = getattr(datasets, str(DATASETS[name].torchvision))
        return dataset_class(str(root), train=part == "train", download=download)
    except Exception as error:  # URLError, RuntimeError, OSError: whatever the download or the files raise
        raise UserError(
            f"{name} could not be read from {root} or downloaded: {' '.join(str(error).split())[:200]}\n"
            "Put its files there (--data.root names another folder) and remove damaged ones, or use --data.dataset"
            " digits, which needs none."
        ) from error


def _read_digits(name: str, file: Path, part: str) -> tuple[Tensor, Tensor]:
    try:
        with np.load(file) as arrays:
            return torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"])
    except Exception as error:  # of the file system, of a zip file, or of NumPy, which executes nothing in the file
        raise UserError(f"{file} can't be read: {reason(error)}.") from error


def _read_corrupt_mnist(name: str, root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read ``train_images_0.pt``, ``train_target_0.pt`` and so on, or ``test_images.pt`` and ``test_target.pt``."""
    endings = [""]
    if part == "train":
        num_files = len(list(root.glob("train_images_*.pt")))
        endings = [f"_{i}" for i in range(max(1, num_files))]
    pairs = []
    for ending in endings:
        image_file = root / f"{part}_images{ending}.pt"
        label_file = root / f"{part}_target{ending}.pt"
        tensors = _load_tensor(image_file), _load_tensor(label_file)
        pairs.append(_checked(*tensors, DATASETS[name], str(image_file), str(label_file)))
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])


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
        raise UserError(f"{file} must hold a plain tensor; it holds a value of type {type(tensor).__name__}.")
    return tensor


def _checked(
    images: Tensor, labels: Tensor, known: PictureSource, image_title: str, label_title: str
) -> tuple[Tensor, Tensor]:
    """Return images as ``(N, C, H, W)`` uint8 and labels as ``(N,)`` int64, and refuse what does not fit.

    Messages call the images ``image_title`` and the labels ``label_title``.
    """
    if len(images) == 0 or images[0].numel() != math.prod(known.shape):
        expected = ", ".join(str(size) for size in known.shape)
        raise UserError(f"{image_title} has images of shape {tuple(images.shape)}; they must be (N, {expected}).")
    if tuple(labels.shape) != (len(images),):
        given = f"labels of shape {tuple(labels.shape)} for {len(images)} images"
        raise UserError(f"{label_title} has {given}; each needs one label.")
    largest = len(known.class_names) - 1
    if labels.is_floating_point() or labels.min() < 0 or labels.max() > largest:
        given = f"labels of type {labels.dtype} from {labels.min()} to {labels.max()}"
        raise UserError(f"{label_title} has {given}; they must be whole numbers from 0 to {largest}.")
    if images.dtype != torch.uint8:
        if not (images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
            given = f"pixels of type {images.dtype} from {images.min():.3g} to {images.max():.3g}"
            raise UserError(f"{image_title} has {given}; they must be uint8, or float from 0 to 1 without normalising.")
        images = images.mul(255).round_().byte()
    return images.reshape(-1, *known.shape).contiguous(), labels.long()


READERS: dict[str, Callable[[str, Path, str], tuple[Tensor, Tensor]]] = {
    "digits": _read_digits,
    "corrupt_mnist": _read_corrupt_mnist,
}
_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_MNIST = PictureSource(
    source="MNIST, 70,000 handwritten digits of 28x28 pixels by Y. LeCun, C. Cortes and C. Burges",
    shape=(1, 28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    class_names=_DIGITS,
    torchvision="MNIST",
)
DATASETS = {
    "digits": PictureSource(
        source="1,797 handwritten digits of 8x8 pixels by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,"
        " https://doi.org/10.24432/C50P49, CC BY 4.0; grey levels were brought from 0-16 to 0-255",
        shape=(1, 8, 8),
        mean=(0.3055,),
        std=(0.3765,),
        class_names=_DIGITS,
    ),
    "mnist": _MNIST,
    "fashion_mnist": PictureSource(
        source="Fashion-MNIST, 70,000 pieces of clothing of 28x28 pixels by Zalando Research, MIT licence",
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        class_names=_CLOTHES,
        mirror=True,
        torchvision="FashionMNIST",
    ),
    "cifar10": PictureSource(
        source="CIFAR-10, 60,000 photographs of 32x32 pixels by A. Krizhevsky, V. Nair and G. Hinton",
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mirror=True,
        torchvision="CIFAR10",
    ),
    "corrupt_mnist": replace(_MNIST, source="MNIST, rotated at random, 28x28 pixels", torchvision=None),
    "image_folder": PictureSource(
        source="images of the author's own, in a folder for each class",
        mean=(0.485, 0.456, 0.406),  # of ImageNet
        std=(0.229, 0.224, 0.225),
        mirror=True,
    ),
}
