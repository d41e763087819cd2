"""The six data sets: what is known of each, and how its files are read."""

from __future__ import annotations

import mmap
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .runtime.errors import UserError, reason
from .inputs import IMAGE_SUFFIXES, read_image


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
# The first bytes of image files; those of TIFF and WebP are the first bytes of other formats too.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"II", b"MM", b"RIFF")


class ImageTensors(Dataset):
    """Images that fit in memory; a batch is gathered in one operation.

    Args:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64.
    """

    draws_nothing = True  # no random numbers

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        # eight times as fast as `images[indices]`
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)


class DecodedImages:
    """Images that have been read once, in memory that worker processes share where they are forked (Linux).

    Args:
        count: Images.
        size: Their height and width.
    """

    def __init__(self, count: int, size: int) -> None:
        # anonymous: /dev/shm, where torch puts what processes share, may be small; pages are taken as they are filled
        self.images = torch.frombuffer(mmap.mmap(-1, count * 3 * size * size), dtype=torch.uint8)
        self.images = self.images.view(count, 3, size, size)
        self.known = torch.frombuffer(mmap.mmap(-1, count), dtype=torch.bool)

    @staticmethod
    def fit_in_memory(count: int, size: int) -> bool:
        """Whether they take less than an eighth of this machine's memory, or of what its container may have."""
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
        with suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return bool(limits) and count * 3 * size * size < min(limits) / 8


class ImageFiles(Dataset):
    """Images that stay on disk, read when their batch is due.

    Args:
        files: The image files.
        labels: Their labels, ``(N,)`` int64.
        size: Height and width of the result; the shorter side is scaled to it and the longer one cut.
        skip_corrupt: Name a file that can't be read and leave it out, where otherwise it is an error.
        cache: Keep what has been read in memory, for the next epoch.
    """

    def __init__(
        self, files: list[Path], labels: Tensor, size: int, skip_corrupt: bool = False, cache: bool = False
    ) -> None:
        self.files = files
        self.labels = labels
        self.size = size
        self.skip_corrupt = skip_corrupt
        self.decoded = DecodedImages(len(files), size) if cache else None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"decoded": None}  # a process that is not forked has no part in the memory

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, indices = self.read(indices)
        return images, self.labels[indices]

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Read images, uint8 ``(B, 3, size, size)``, and say which of the indices they are.

        Raises:
            UserError: A file can't be read as an image; with ``skip_corrupt``, none of them can.
        """
        if self.decoded is not None and bool(self.decoded.known[indices].all()):
            return self.decoded.images.index_select(0, indices), indices
        images, kept = [], []
        for index in indices.tolist():
            try:
                image = torch.from_numpy(read_image(self.files[index], (3, self.size, self.size)))
                images.append(image)
                kept.append(index)
                if self.decoded is not None:
                    self.decoded.images[index] = image
                    self.decoded.known[index] = True
            except Exception as error:  # whatever the decoder raises
                told = f"{self.files[index]} can't be read as an image"
                if not self.skip_corrupt:
                    raise UserError(
                        f"{told}: {reason(error)}. Replace it, or leave such files out with --data.skip_corrupt true."
                    ) from error
                warnings.warn(f"{told} and is left out: {reason(error)}", stacklevel=2)
        if not images:
            first = self.files[int(indices[0])]
            raise UserError(f"none of the {len(indices)} images of a batch can be read; the first is {first}.")
        return torch.stack(images), torch.tensor(kept)

    def refuse_other_files(self) -> None:
        """Look at the first bytes of every file, which takes 2 seconds for 100,000; only reading finds all damage.

        Raises:
            UserError: Some are no images.
        """
        from PIL import Image

        wrong = []
        for file in self.files:
            try:
                with file.open("rb") as stream:
                    if not stream.read(4).startswith(_SIGNATURES):
                        Image.open(file).close()  # it may be of another format that Pillow knows
            except Exception as error:
                wrong.append(f"{file} ({getattr(error, 'strerror', None) or 'no image'})")
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise UserError(
                f"{len(wrong)} of {len(self.files)} image files can't be read: {', '.join(wrong[:3])}{more}."
                " Replace or remove them, or leave such files out with --data.skip_corrupt true."
            )


class Indexed(Dataset):
    """A data set whose batches carry indices in the place of labels, to tell which image a prediction is of."""

    def __init__(self, dataset: ImageTensors | ImageFiles) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.dataset, ImageFiles):
            return self.dataset.read(indices)
        return self.dataset.images.index_select(0, indices), indices


def load(
    dataset: str,
    root: Path,
    class_names: list[str],
    image_size: int,
    skip_corrupt: bool = False,
    cache_images: bool | None = None,
) -> dict[str, ImageTensors | ImageFiles]:
    """Read the parts ``train`` and ``test`` of a data set, and ``val`` where it has one of its own.

    Args:
        dataset: A key of `FACTS`.
        root: The folder with its files.
        class_names: The classes in the order of their labels.
        image_size: Height and width that the images of a folder are brought to, in pixels.
        skip_corrupt: Leave out images of a folder that can't be read.
        cache_images: Keep a folder's images in memory once they are read; None, if they take little of it.

    Raises:
        UserError: Files are missing, or are not what they should be.
    """
    if dataset == "image_folder":
        names = ["train", "test", *(["val"] if (root / "val").is_dir() else [])]
        return {
            # the test images are read once
            part: _image_files(
                root / part, class_names, image_size, skip_corrupt, cache_images if part != "test" else False
            )
            for part in names
        }
    parts = {part: _read_tensors(dataset, root, part) for part in ("train", "test")}
    for part, (images, labels) in parts.items():
        _check_tensors(f"{dataset} in {root}", part, images, labels, FACTS[dataset])
    return {part: ImageTensors(images, labels) for part, (images, labels) in parts.items()}


def _check_tensors(name: str, part: str, images: Tensor, labels: Tensor, facts: Facts) -> None:
    if len(images) == 0 or tuple(images.shape[1:]) != facts.shape:
        expected = ", ".join(str(size) for size in facts.shape)
        raise UserError(f"{name} has {part} images of shape {tuple(images.shape)}; they must be (N, {expected}).")
    if tuple(labels.shape) != (len(images),):
        raise UserError(
            f"{name} has {len(images)} {part} images, and labels of shape {tuple(labels.shape)}; each needs one label."
        )
    low, high, num_classes = int(labels.min()), int(labels.max()), len(facts.class_names)
    if low < 0 or high >= num_classes:
        raise UserError(f"{name} has {part} labels from {low} to {high}; they must lie in 0 to {num_classes - 1}.")


def _read_tensors(dataset: str, root: Path, part: str) -> tuple[Tensor, Tensor]:
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
        return _read_corrupt_mnist(root, part)
    source = torchvision_dataset(dataset, root, train=part == "train", download=False)
    images, labels = torch.as_tensor(source.data), torch.as_tensor(source.targets)
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous(), labels


def torchvision_dataset(dataset: str, root: Path, train: bool, download: bool) -> Any:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[dataset]
    try:
        return kind(str(root), train=train, download=download)
    except Exception as error:  # URLError, RuntimeError, OSError: whatever the download or the files raise
        if isinstance(error, OSError) or "download" in str(error):
            raise UserError(
                f"{dataset} is not in {root}, and could not be downloaded: {' '.join(str(error).split())[:200]}\n"
                "Put its files there (--data.root names another folder), or take --data.dataset digits, which needs"
                " none."
            ) from error
        raise UserError(
            f"a file of {dataset} in {root} is damaged: {reason(error)}. Remove it, and it is downloaded again."
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
    images, labels = zip(*(_read_pair(*pair) for pair in files), strict=True)
    return torch.cat(images), torch.cat(labels)


def _read_pair(image_file: Path, label_file: Path) -> tuple[Tensor, Tensor]:
    images, labels = _load_tensor(image_file), _load_tensor(label_file)
    if images.numel() == 0 or images.ndim not in (3, 4) or images.numel() != len(images) * 28 * 28:
        raise UserError(f"{image_file} has images of shape {tuple(images.shape)}; they must be (N, 28, 28).")
    if tuple(labels.shape) != (len(images),):
        raise UserError(
            f"{label_file} has labels of shape {tuple(labels.shape)} for the {len(images)} images of {image_file.name};"
            " each needs one label."
        )
    if labels.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise UserError(f"{label_file} has labels of type {labels.dtype}; they must be whole numbers, torch.int64.")
    if images.is_floating_point():
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"{image_file}: pixels run from {low:.3g} to {high:.3g}; they must be floats from 0 to 1, or uint8 (not"
                " normalised: that happens on the device)."
            )
        images = images.mul(255).round_().byte()
    if images.dtype != torch.uint8:
        raise UserError(f"{image_file} has pixels of type {images.dtype}; they must be floats from 0 to 1, or uint8.")
    return images.reshape(-1, 1, 28, 28), labels.long()


def _load_tensor(file: Path) -> Tensor:
    try:
        tensor = torch.load(file, weights_only=True)
    except Exception as error:
        raise UserError(f"{file} can't be read as a tensor: {reason(error)}.") from error
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        raise UserError(f"{file} holds no plain tensor, but a value of type {type(tensor).__name__}.")
    return tensor


def class_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: put your images into {folder.parent / 'train'}/CLASS/ and"
            f" {folder.parent / 'test'}/CLASS/ (--data.root names another folder)."
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise UserError(f"{folder} must have a folder of images for each of at least two classes; it has {found}.")
    return classes


def _image_files(
    folder: Path, class_names: list[str], size: int, skip_corrupt: bool, cache_images: bool | None
) -> ImageFiles:
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
            os.listdir(folder / name)  # an error where it may not be read, which `rglob` passes over
            raise UserError(f"{folder / name} has no image; files must end in one of {' '.join(IMAGE_SUFFIXES)}.")
        files += images
        labels += [label] * len(images)
    cache = DecodedImages.fit_in_memory(len(files), size) if cache_images is None else cache_images
    dataset = ImageFiles(files, torch.tensor(labels), size, skip_corrupt, cache)
    if not skip_corrupt:
        dataset.refuse_other_files()
    return dataset
