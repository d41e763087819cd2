"""Images with masks: scenes that are made from the bundled digits, and a folder of your own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_runs.data.folders import find
from lightning_runs.errors import UserError, reason
from lightning_runs.masks.reading import IMAGE_SUFFIXES, read_image, size_of
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

IGNORED = 255  # stands in masks for a pixel without a class
LABELS = 64  # of masks without names; more are hardly classes
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # formats that keep every number
KEPT = 2**30  # bytes of images that are kept in memory
SCENES, TEST_SCENES = 800, 200
SIZE, DIGITS = 32, 5  # pixels of a scene's side; the digits from 0 on that are there

Shape = tuple[int, int, int]


class Pairs(Dataset):
    """Images with what belongs to each: masks ``(N, H, W)`` uint8, or indices ``(N,)`` int64.

    Images are in memory, ``(N, C, H, W)`` uint8, or in files, which are read when their batch is due.
    """

    draws_nothing = True  # no random numbers, so batches need no seed

    def __init__(self, images: Tensor | None, targets: Tensor, shape: Shape, files: Sequence[Path] = ()) -> None:
        self.images, self.targets, self.shape, self.files = images, targets, shape, files

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        targets = self.targets.index_select(0, indices)
        if self.images is not None:
            return self.images.index_select(0, indices), targets
        images = [read_or_refuse(self.files[i], self.shape) for i in indices.tolist()]
        return torch.from_numpy(np.stack(images)), targets


def rarest(masks: Tensor) -> Tensor:
    """Return the class of each mask that has the fewest pixels in all masks ``(N, H, W)``, uint8: ``(N,)`` int64."""
    counts = torch.stack([mask.flatten().bincount(minlength=IGNORED + 1) for mask in masks])[:, :IGNORED]
    in_all = counts.sum(dim=0)
    return in_all.where(counts > 0, in_all.sum()).argmin(dim=1)  # 0 where a mask has no class


def read_or_refuse(file: Path, shape: Shape) -> np.ndarray:
    """Read an image, ``(C, H, W)`` uint8; a UserError names one that can't be read."""
    try:
        return read_image(file, shape)
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{file} can't be read as an image: {reason(error)}. Replace it, or remove it.") from error


def make_scenes(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Make scenes of three to eight digits on a noisy background; those of ``test`` have digits of the test alone.

    Returns:
        Images ``(N, 1, H, W)`` uint8, and masks ``(N, H, W)`` uint8: 0 is background, and 1 and more are the digits.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    images, labels = images[labels < DIGITS].astype(float), labels[labels < DIGITS]
    side, count = images.shape[1], SCENES if part == "train" else TEST_SCENES
    random = np.random.default_rng(("train", "test").index(part))
    slope = np.linspace(-0.5, 0.5, SIZE)
    across, down = random.uniform(-60, 60, (2, count, 1, 1))  # how grey levels change over the scene
    scenes = 60 + across * slope + down * slope[:, None] + random.normal(0, 12, (count, SIZE, SIZE))
    masks = np.zeros(scenes.shape, np.uint8)
    for i in range(count):
        for _ in range(random.integers(3, 9)):
            chosen = random.integers(len(images))
            row, column = random.integers(0, SIZE - side + 1, 2)
            place = np.s_[i, row : row + side, column : column + side]
            if not masks[place].any():  # one that would cover another is left out
                scenes[place] += images[chosen] * random.uniform(0.6, 0.75)
                masks[place][images[chosen] >= 96] = labels[chosen] + 1
    return scenes.clip(0, 255).astype(np.uint8)[:, None], masks


def read_classes(root: Path) -> dict[str, Any]:
    """Read ``classes.txt``, a name in each line from label 0 on, or ``LABEL NAME``; nothing where it is not there.

    Raises:
        UserError: A label is there twice, or there are too many.
    """
    file = root / "classes.txt"
    if not file.is_file():
        return {}
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if len(lines) > IGNORED:
        raise UserError(f"{file} has {len(lines)} classes; at most {IGNORED} are possible.")
    pairs = [line.partition(" ") for line in lines]
    if not all(number.isdecimal() and name for number, _, name in pairs):
        return {"labels": list(range(len(lines))), "class_names": lines}
    numbers = [int(number) for number, _, _ in pairs]
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise UserError(f"{file} has the label {twice[0]} more than once. Give each class a label of its own.")
    return {"labels": numbers, "class_names": [name.strip() for _, _, name in pairs]}


def find_pairs(root: Path) -> list[tuple[Path, Path]]:
    """List each image of ``images/`` with its mask, the file of the same name in ``masks/``.

    Raises:
        UserError: A folder is missing or empty, or an image or a mask is alone.
    """
    found = []
    for name in ("images", "masks"):
        folder = root / name
        if not folder.is_dir():
            raise UserError(
                f"{folder} is missing: put your images into {root / 'images'} and a mask of the same name for each, a"
                f" PNG file, into {root / 'masks'} (--data.root names another folder)."
            )
        files = find([folder], IMAGE_SUFFIXES)
        names = [file.relative_to(folder).with_suffix("") for file in files]
        for file, other, one, two in zip(files, files[1:], names, names[1:], strict=False):
            if one == two:
                raise UserError(f"{file} and {other} have the same name. Rename one of them, or remove it.")
        found.append(dict(zip(names, files, strict=True)))
    images, masks = found
    for here, there, what, other in ((images, masks, "mask", "masks"), (masks, images, "image", "images")):
        if alone := [name for name in here if name not in there]:
            lacks = f"{here[alone[0]]} has no {what} {root / other / alone[0]}.png"
            raise UserError(f"{lacks} ({len(alone)} in all). Add it, or remove the file.")
    return [(images[name], masks[name]) for name in images]


def read_mask(file: Path) -> np.ndarray:
    """Read the label of each pixel, ``(H, W)`` int32: the grey level, or of a palette the number of the colour.

    Raises:
        UserError: The file can't be read, or holds colours, or was compressed with losses.
    """
    if file.suffix.lower() not in MASK_SUFFIXES:
        raise UserError(f"{file} is no PNG file. A mask needs the exact number of each pixel's class: save it as PNG.")
    try:
        with Image.open(file) as image:
            mode, array = image.mode, np.asarray(image)
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{file} can't be read as a mask: {reason(error)}. Replace it, or remove it.") from error
    if array.ndim != 2 or mode == "F":
        raise UserError(
            f"{file} is a picture of mode {mode}; a mask holds the number of each pixel's class. Save it as a PNG file"
            " of one channel (mode L, I;16, or P with a palette)."
        )
    return array.astype(np.int32)


def _read_pair(
    pair: tuple[Path, Path], shape: Shape, labels: Sequence[int], ignored: int | None, keep: bool
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Read an image, None where it is not kept, its mask in the same size, and the labels that the whole mask has."""
    file, mask_file = pair
    mask = read_mask(mask_file)
    image, size = read_or_refuse(file, shape) if keep else None, size_of(file)
    if size != mask.shape[::-1]:
        there = f"{mask.shape[1]} pixels wide and {mask.shape[0]} high, and {file} {size[0]} and {size[1]}"
        raise UserError(f"{mask_file} is {there}. A mask must have the size of its image.")
    found = np.unique(mask)
    if labels and (unknown := sorted(set(found.tolist()) - {*labels, ignored})):
        allowed = ", ".join(map(str, labels[:12])) + (" …" if len(labels) > 12 else "")
        raise UserError(
            f"{mask_file} has the label {unknown[0]}, which is not known; known are {allowed}, and"
            f" --data.ignore_index {ignored} for pixels without a class. Correct it, or classes.txt."
        )
    if found.tolist() == [ignored]:
        raise UserError(f"{mask_file} has no class: all of it is {ignored}, which is ignored. Remove it and its image.")
    small = Image.fromarray(mask).resize((shape[2], shape[1]), Image.Resampling.NEAREST)
    return image, np.asarray(small), found


def read_pairs(
    pairs: Sequence[tuple[Path, Path]], shape: Shape, labels: list[int], ignored: int | None
) -> tuple[Pairs, list[int]]:
    """Read images and masks, and tell the labels, in the order of the classes: those that are there, if none is given.

    Raises:
        UserError: An image or a mask is not as it should be, or the masks have no classes.
    """
    keep = len(pairs) * math.prod(shape) < KEPT
    with ThreadPoolExecutor() as pool:
        read = [*pool.map(lambda pair: _read_pair(pair, shape, labels, ignored, keep), pairs)]
    images, masks, found = zip(*read, strict=True)
    there = sorted({*np.concatenate(found).tolist()} - {ignored})
    if not labels and not 1 < len(there) <= LABELS:
        shown = f"the labels {', '.join(map(str, there[:5]))}" + (" …" if len(there) > 5 else "")
        raise UserError(
            f"the masks in {pairs[0][1].parent} have {shown}, {len(there)} in all, beside {ignored}, which is ignored"
            f" (--data.ignore_index); 2 to {LABELS} are classes. Write the number of its class into each pixel, no grey"
            " level and no number of a single object, or name the classes in classes.txt."
        )
    labels = labels or there
    table = np.full(max(*there, *labels, ignored or 0) + 1, IGNORED, np.uint8)  # the class of each label
    table[labels] = np.arange(len(labels))
    files, targets = [image for image, _ in pairs], torch.from_numpy(table[np.stack(masks)])
    return Pairs(torch.from_numpy(np.stack(images)) if keep else None, targets, shape, files), labels
