"""Images with masks: scenes that are made from digits, and a folder of your own."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.folders import file_states, find_files
from ..data.items import Items
from ..data.pictures import PICTURE_SUFFIXES, PictureSource, Shape, picture_size
from ..errors import UserError, reason
from .metrics import IGNORED
from .reading import read_image

MAX_UNNAMED_CLASSES = 64  # of masks without classes.txt; more numbers are hardly classes
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # formats that keep every number
CACHE_BYTES = 2**30  # images that need less are kept in memory
NUM_SCENES = {"train": 800, "test": 200}
SCENE_SIZE = 32  # pixels of a scene's side
SCENE_DIGITS = 5  # digits from 0 on that scenes have

DATASETS = {
    "digit_scenes": PictureSource(
        "digit_scenes: made from handwritten digits by E. Alpaydin and C. Kaynak, UCI,"
        " https://doi.org/10.24432/C50P49, CC BY 4.0",
        mean=(0.2792,),
        std=(0.1652,),
        shape=(1, SCENE_SIZE, SCENE_SIZE),
    ),
    "mask_folder": PictureSource(
        "mask_folder: the author's own",
        mean=(0.485, 0.456, 0.406),  # of ImageNet
        std=(0.229, 0.224, 0.225),
        mirror=True,
    ),
}


class MaskedImages(Items):
    """Images with masks; those that are not kept in memory are read when their batch is due.

    Args:
        masks: The class of each pixel, or `IGNORED`, ``(N, H, W)`` uint8; or the number of each image, ``(N,)``.
        shape: Channels, height and width of an image.
        images: ``(N, C, H, W)`` uint8; None reads the files.
        files: The file of each image, if they are files.
    """

    def __init__(self, masks: Tensor, shape: Shape, images: Tensor | None = None, files: Sequence[Path] = ()) -> None:
        super().__init__(*([] if images is None else [images]), masks)
        self.shape = shape
        self.files = files
        self.is_in_memory = images is not None

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, ...]:
        if self.is_in_memory:
            return super().__getitem__(indices)
        images = [read_or_refuse(self.files[i], self.shape) for i in indices.tolist()]
        return torch.from_numpy(np.stack(images)), self.labels.index_select(0, indices)

    def classes(self, indices: Tensor) -> Tensor:
        """Return the class of each pixel of these images that has one, ``(M,)`` uint8."""
        masks = self.labels[indices]
        return masks[masks != IGNORED]

    def content(self) -> Iterator[Any]:
        """Yield bytes that change when a mask or an image changes."""
        yield from super().content()
        yield from file_states(self.files)


def rarest_classes(masks: Tensor) -> Tensor:
    """Return the class of each mask that has the fewest pixels in all masks ``(N, H, W)``, uint8: ``(N,)`` int64."""
    counts = torch.stack([mask.flatten().bincount(minlength=IGNORED + 1) for mask in masks])[:, :IGNORED]
    totals = counts.sum(dim=0)
    return totals.where(counts > 0, totals.sum()).argmin(dim=1)  # 0 where a mask has no class


def read_or_refuse(file: Path, shape: Shape) -> np.ndarray:
    """Read an image, ``(C, H, W)`` uint8; a UserError names a file that can't be read."""
    try:
        return read_image(file, shape)
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{file} can't be read as an image: {reason(error)}. Replace it, or remove it.") from error


def read_new_images(paths: Sequence[str | Path], shape: Shape) -> tuple[MaskedImages, Tensor]:
    """Return the images in files and folders, and the indices of those that can be read, ``(N,)`` int64.

    Raises:
        UserError: There are none, or none of them can be read.
    """
    files = find_files(paths, PICTURE_SUFFIXES)
    readable = []
    for i, file in enumerate(files):
        with suppress(UserError):  # `predict` names a file that has no prediction
            read_or_refuse(file, shape)
            readable.append(i)
    if not readable:
        raise UserError(f"none of {len(files)} images can be read; the first is {files[0]}.")
    return MaskedImages(torch.arange(len(files)), shape, files=files), torch.tensor(readable)


def read_digit_scenes(file: Path) -> tuple[MaskedImages, int, dict[str, Any]]:
    """Make scenes from digits.

    Args:
        file: The file digits.npz.

    Returns:
        The scenes, those for training first; how many are for training; and the classes (see `read_mask_folder`).
    """
    parts = [make_digit_scenes(file, part) for part in NUM_SCENES]
    images = torch.from_numpy(np.concatenate([part[0] for part in parts]))
    masks = torch.from_numpy(np.concatenate([part[1] for part in parts]))
    names = ["background", *map(str, range(SCENE_DIGITS))]
    scenes = MaskedImages(masks, DATASETS["digit_scenes"].shape, images)
    return scenes, NUM_SCENES["train"], {"labels": list(range(len(names))), "class_names": names}


def make_digit_scenes(file: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Make scenes of three to eight digits on a noisy background; those of ``test`` have digits of the test alone.

    Returns:
        Images ``(N, 1, H, W)`` uint8, and masks ``(N, H, W)`` uint8: 0 is background, and 1 and more are the digits.
    """
    with np.load(file) as arrays:
        images = arrays[f"{part}_images"]
        labels = arrays[f"{part}_labels"]
    is_used = labels < SCENE_DIGITS
    images = images[is_used].astype(float)
    labels = labels[is_used]
    side = images.shape[1]
    count = NUM_SCENES[part]
    random = np.random.default_rng([*NUM_SCENES].index(part))
    place = np.linspace(-0.5, 0.5, SCENE_SIZE)
    slopes = random.uniform(-60, 60, (2, count, 1, 1))  # how grey levels change over the scene, across and down
    noise = random.normal(0, 12, (count, SCENE_SIZE, SCENE_SIZE))
    scenes = 60 + slopes[0] * place + slopes[1] * place[:, None] + noise
    masks = np.zeros(scenes.shape, np.uint8)
    for i in range(count):
        for _ in range(random.integers(3, 9)):
            chosen = random.integers(len(images))
            corner = random.integers(0, SCENE_SIZE - side + 1, 2)
            window = np.s_[i, corner[0] : corner[0] + side, corner[1] : corner[1] + side]
            if not masks[window].any():  # one that would cover another is left out
                scenes[window] += images[chosen] * random.uniform(0.6, 0.75)
                masks[window][images[chosen] >= 96] = labels[chosen] + 1
    return scenes.clip(0, 255).astype(np.uint8)[:, None], masks


def read_mask_folder(
    root: Path, shape: Shape, known: Mapping[str, Any], ignore_index: int | None
) -> tuple[MaskedImages, int, dict[str, Any]]:
    """Read a folder with ``images/``, ``masks/`` and, if you have names, ``classes.txt``.

    Args:
        root: The folder. Its ``test/`` may have the same for images that are chosen for the test.
        shape: Channels, height and width that images are brought to.
        known: The classes that a model was trained with, or nothing.
        ignore_index: The number in masks of pixels without a class; None if there is none.

    Returns:
        The images; how many of them, the first, are not in ``test/``; and the classes: ``class_names``, and
        ``labels``, their numbers in the masks.

    Raises:
        UserError: A file is missing, alone, or not as it should be.
    """
    pairs = find_pairs(root)
    num_train = len(pairs)
    if (root / "test").is_dir():
        pairs += find_pairs(root / "test")
    known = known or read_classes(root)
    labels = known.get("labels", [])
    ignored = None if ignore_index in labels else ignore_index
    keep_images = len(pairs) * math.prod(shape) < CACHE_BYTES
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda pair: _read_pair(pair, shape, labels, ignored, keep_images), pairs))
    images, masks, mask_labels = zip(*read, strict=True)
    existing = sorted({*np.concatenate(mask_labels).tolist()} - {ignored})
    if not labels and not 1 < len(existing) <= MAX_UNNAMED_CLASSES:
        shown = ", ".join(map(str, existing[:5])) + (" …" if len(existing) > 5 else "")
        raise UserError(
            f"the masks in {root / 'masks'} have the labels {shown}, {len(existing)} in all, beside {ignored}, which is"
            f" ignored (--data.ignore_index); 2 to {MAX_UNNAMED_CLASSES} are classes. Write the number of its class"
            " into each pixel, no grey level and no number of a single object, or name the classes in classes.txt."
        )
    labels = labels or existing
    class_of_label = np.full(max(*existing, *labels, ignored or 0) + 1, IGNORED, np.uint8)
    class_of_label[labels] = np.arange(len(labels))
    classes = torch.from_numpy(class_of_label[np.stack(masks)])
    pixels = torch.from_numpy(np.stack(images)) if keep_images else None
    names = known.get("class_names") or [f"label {label}" for label in labels]
    found = MaskedImages(classes, shape, pixels, [file for file, _ in pairs])
    return found, num_train, {"labels": labels, "class_names": names}


def read_classes(root: Path) -> dict[str, Any]:
    """Read ``classes.txt``, a name in each line from label 0 on, or ``LABEL NAME``; without the file return nothing.

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
    labels = [int(number) for number, _, _ in pairs]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise UserError(f"{file} has the label {repeated[0]} more than once. Give each class a label of its own.")
    return {"labels": labels, "class_names": [name.strip() for _, _, name in pairs]}


def find_pairs(root: Path) -> list[tuple[Path, Path]]:
    """List each image of ``images/`` with its mask, the file of the same name in ``masks/``.

    Raises:
        UserError: A folder is missing or empty, or an image or a mask is alone.
    """
    images = _files_by_name(root, "images")
    masks = _files_by_name(root, "masks")
    for files, others, missing in ((images, masks, "masks"), (masks, images, "images")):
        alone = [name for name in files if name not in others]
        if alone:
            raise UserError(
                f"{files[alone[0]]} has no counterpart {root / missing / alone[0]}.png ({len(alone)} such files)."
                " Add it, or remove the file."
            )
    return [(images[name], masks[name]) for name in images]


def _files_by_name(root: Path, kind: str) -> dict[Path, Path]:
    folder = root / kind
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: put your images into {root / 'images'}, and a mask of the same name for each, a PNG"
            f" file, into {root / 'masks'} (--data.root names another folder)."
        )
    files: dict[Path, Path] = {}
    for file in find_files([folder], PICTURE_SUFFIXES):
        name = file.relative_to(folder).with_suffix("")
        if name in files:
            raise UserError(f"{files[name]} and {file} have the same name. Rename one of them, or remove it.")
        files[name] = file
    return files


def read_mask(file: Path) -> np.ndarray:
    """Read the label of each pixel, ``(H, W)`` int32: the grey level, or the number of a palette's colour.

    Raises:
        UserError: The file can't be read, or holds colours, or was compressed with losses.
    """
    if file.suffix.lower() not in MASK_SUFFIXES:
        raise UserError(f"{file} must be a PNG file: a mask needs the exact number of each pixel's class.")
    try:
        with Image.open(file) as image:
            mode = image.mode
            array = np.asarray(image)
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{file} can't be read as a mask: {reason(error)}. Replace it, or remove it.") from error
    if array.ndim != 2 or mode == "F":
        raise UserError(
            f"{file} has the mode {mode}; a mask holds the number of each pixel's class. Save it as a PNG file of one"
            " channel (mode L, I;16, or P with a palette)."
        )
    return array.astype(np.int32)


def _read_pair(
    pair: tuple[Path, Path], shape: Shape, labels: Sequence[int], ignored: int | None, keep_image: bool
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Read an image, None where it is not kept, its mask in the same size, and the labels of the whole mask."""
    file, mask_file = pair
    mask = read_mask(mask_file)
    image = read_or_refuse(file, shape) if keep_image else None
    width, height = picture_size(file)
    if (height, width) != mask.shape:
        raise UserError(
            f"{mask_file} is {mask.shape[1]} pixels wide and {mask.shape[0]} high, and {file} {width} and {height}."
            " A mask must have the size of its image."
        )
    mask_labels = np.unique(mask)
    unknown = sorted(set(mask_labels.tolist()) - {*labels, ignored})
    if labels and unknown:
        allowed = ", ".join(map(str, labels[:12])) + (" …" if len(labels) > 12 else "")
        raise UserError(
            f"{mask_file} has the label {unknown[0]}; allowed are {allowed}, and --data.ignore_index {ignored} for"
            " pixels without a class. Correct it, or classes.txt."
        )
    if mask_labels.tolist() == [ignored]:
        raise UserError(f"{mask_file} has no class: all of it is {ignored}, which is ignored. Remove it and its image.")
    resized = Image.fromarray(mask).resize((shape[2], shape[1]), Image.Resampling.NEAREST)
    return image, np.asarray(resized), mask_labels
