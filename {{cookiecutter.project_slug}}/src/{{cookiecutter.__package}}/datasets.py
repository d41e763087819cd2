"""The six data sets: what is known of each, and how its files are read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .errors import UserError


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before it is read.

    Args:
        shape: Channels, height and width of an image.
        mean: Mean of the pixels of the training images, one value per channel, 0 to 1.
        std: Their standard deviation.
        shift: How far an image may be moved in augmentation, in pixels.
        flip: Whether its mirror image is of the same class.
        class_names: The name of each class, in the order of the labels.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: int
    flip: bool
    class_names: tuple[str, ...]


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FACTS = {
    "digits": Facts((1, 8, 8), (0.3055,), (0.3765,), 1, False, _DIGITS),
    "mnist": Facts((1, 28, 28), (0.1307,), (0.3081,), 2, False, _DIGITS),
    "fashion_mnist": Facts((1, 28, 28), (0.2860,), (0.3530,), 2, True, _CLOTHES),
    "cifar10": Facts((3, 32, 32), _CIFAR_MEAN, _CIFAR_STD, 4, True, _CIFAR),
    "corrupt_mnist": Facts((1, 28, 28), (0.1307,), (0.3081,), 2, False, _DIGITS),
    "image_folder": Facts((3, 0, 0), _IMAGENET_MEAN, _IMAGENET_STD, 0, True, ()),  # size and classes are yours
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


class ImageTensors(Dataset):
    """Images that fit in memory; a batch is gathered in one operation.

    Args:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


class ImageFiles(Dataset):
    """Images that stay on disk, read when their batch is due. A file that is no image is named and left out.

    Args:
        files: The image files.
        labels: Their labels, ``(N,)`` int64.
        size: Height and width of the result; the shorter side is scaled to it and the longer one cut.
    """

    def __init__(self, files: list[Path], labels: Tensor, size: int) -> None:
        self.files = files
        self.labels = labels
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, indices = self.read(indices)
        return images, self.labels[indices]

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read images, uint8 ``(B, 3, size, size)``, and say which of the indices they are."""
        images, kept = [], []
        for index in indices.tolist():
            try:
                images.append(self._decode(self.files[index]))
                kept.append(index)
            except Exception as error:  # whatever the decoder raises
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                warnings.warn(f"{self.files[index]} can't be read as an image and is left out: {reason}", stacklevel=2)
        if not images:
            first = self.files[int(indices[0])]
            raise UserError(f"none of the {len(indices)} images of a batch can be read; the first is {first}.")
        return torch.stack(images), torch.tensor(kept)

    def _decode(self, file: Path) -> Tensor:
        from PIL import Image, ImageOps

        with Image.open(file) as image:
            image.draft("RGB", (self.size, self.size))  # a large JPEG is read at an eighth, quarter or half of its size
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # Pillow would take every 16-bit grey above 255 for white
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            image = image.convert("RGB")
            image = ImageOps.fit(image, (self.size, self.size), method=Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Indexed(Dataset):
    """A data set whose batches carry indices in the place of labels, to tell which image a prediction is of."""

    def __init__(self, dataset: ImageTensors | ImageFiles) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.dataset, ImageFiles):
            return self.dataset.read(indices)
        return self.dataset.images[indices], indices


def load(dataset: str, root: Path, class_names: list[str], image_size: int) -> dict[str, ImageTensors | ImageFiles]:
    """Read the parts ``train`` and ``test`` of a data set, and ``val`` where it has one of its own.

    Args:
        dataset: A key of `FACTS`.
        root: The folder with its files.
        class_names: The classes in the order of their labels.
        image_size: Height and width that the images of a folder are brought to, in pixels.

    Raises:
        UserError: Files are missing, or are not what they should be.
    """
    if dataset == "image_folder":
        parts = ["train", "test", *(["val"] if (root / "val").is_dir() else [])]
        return {part: _image_files(root / part, class_names, image_size) for part in parts}
    return {part: ImageTensors(*_read_tensors(dataset, root, part, len(class_names))) for part in ("train", "test")}


def _read_tensors(dataset: str, root: Path, part: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Read images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64 into memory."""
    if dataset == "digits":
        # 1,797 handwritten digits by E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI,
        # CC BY 4.0 (https://doi.org/10.24432/C50P49); grey levels 0 to 16 brought to 0 to 255, one in five set apart
        # for the test.
        with np.load(Path(__file__).with_name("digits.npz")) as arrays:
            return torch.from_numpy(arrays[f"{part}_images"])[:, None], torch.from_numpy(
                arrays[f"{part}_labels"]
            ).long()
    if dataset == "corrupt_mnist":
        images, labels = _read_corrupt_mnist(root, part)
    else:
        source = torchvision_dataset(dataset, root, train=part == "train", download=False)
        images, labels = torch.as_tensor(source.data), torch.as_tensor(source.targets)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(
            f"{dataset} in {root} has labels from {low} to {high}; they must lie in 0 to {num_classes - 1}."
        )
    return images, labels


def torchvision_dataset(dataset: str, root: Path, train: bool, download: bool) -> Any:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[dataset]
    try:
        return kind(str(root), train=train, download=download)
    except Exception as error:  # URLError, RuntimeError, OSError: whatever the download or the files raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{dataset} is not in {root}, and could not be downloaded: {reason}\n"
            "Put its files there (--data.root names another folder), or take --data.dataset digits, which needs none."
        ) from error


def _read_corrupt_mnist(root: Path, part: str) -> tuple[Tensor, Tensor]:
    if part == "train":
        count = len(list(root.glob("train_images_*.pt"))) or 1
        files = [(root / f"train_images_{i}.pt", root / f"train_target_{i}.pt") for i in range(count)]
    else:
        files = [(root / "test_images.pt", root / "test_target.pt")]
    for file in (file for pair in files for file in pair):
        if not file.is_file():
            raise UserError(
                f"{file} is missing: data.root must be the folder with the corrupt MNIST files.\n"
                f"Make one from MNIST with: python -m {__package__}.corrupt_mnist --output {root}"
            )
    images = torch.cat([_load_tensor(images) for images, _ in files]).squeeze(1)
    labels = torch.cat([_load_tensor(labels) for _, labels in files]).long()
    if images.ndim != 3 or len(images) != len(labels):
        shape = tuple(images.shape)
        raise UserError(
            f"{root}: {part} images are of shape {shape} with {len(labels)} labels; they must be (N, H, W)."
        )
    if images.is_floating_point():
        if images.min() < 0 or images.max() > 1:
            raise UserError(
                f"{root}: pixels run from {images.min():.3g} to {images.max():.3g}; they must be floats from 0 to 1, or"
                " uint8 (not normalised: that happens on the device)."
            )
        images = images.mul(255).round_()
    return images.byte()[:, None], labels


def _load_tensor(file: Path) -> Tensor:
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        raise UserError(f"{file} can't be read as a tensor: {str(error).splitlines()[0]}") from error


def class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: put your images into {folder}/CLASS/ and {folder.parent / 'test'}/CLASS/"
            " (--data.root names another folder)."
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise UserError(f"{folder} must have a folder of images for each of at least two classes; it has {found}.")
    return classes


def _image_files(folder: Path, class_names: list[str], size: int) -> ImageFiles:
    classes = class_folders(folder)
    if classes != class_names:
        missing, extra = sorted(set(class_names) - set(classes)), sorted(set(classes) - set(class_names))
        raise UserError(
            f"{folder} and {folder.parent / 'train'} must have the same class folders;"
            f" in {folder.name}, missing: {', '.join(missing) or 'none'}; not in train: {', '.join(extra) or 'none'}."
        )
    files, labels = [], []
    for label, name in enumerate(class_names):
        images = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise UserError(f"{folder / name} has no image; files must end in one of {' '.join(IMAGE_SUFFIXES)}.")
        files += images
        labels += [label] * len(images)
    return ImageFiles(files, torch.tensor(labels), size)
