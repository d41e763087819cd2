"""Images with masks: scenes that are made from digits, and a folder of your own."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.batches import Items
from ..data.folders import file_states, find_files, print_note
from ..data.pictures import EXIF_ORIENTATION, PICTURE_SUFFIXES, PictureSource, Shape, picture_size
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
    files = [*chain(*find_files(paths, PICTURE_SUFFIXES).values())]
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
    roots = [root, root / "test"] if (root / "test").is_dir() else [root]
    pairs = find_pairs(roots)
    num_train = sum((root / "test") not in file.parents for file, _ in pairs)
    is_trained = bool(known)
    known = known or read_classes(root)
    labels = known.get("labels", [])
    ignored = None if ignore_index in labels else ignore_index
    keep_images = len(pairs) * math.prod(shape) < CACHE_BYTES
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda pair: _read_pair(pair, shape, keep_images), pairs))
    images, masks, mask_labels, palettes, is_turned = zip(*read, strict=True)
    existing = sorted({*np.concatenate(mask_labels).tolist()})
    if not is_trained and existing == [0, ignored] == [0, 255] and labels in ([], [0, 1]):
        print_note(f"the masks in {root / 'masks'} have 0 and 255 alone, which are read as the two classes.")
        labels = existing
        ignored = None
    for (_, file), found in zip(pairs, mask_labels, strict=True):
        unknown = [label for label in found.tolist() if label not in {*labels, ignored}]
        if labels and unknown:
            allowed = ", ".join(map(str, labels[:12])) + (" …" if len(labels) > 12 else "")
            raise UserError(
                f"{file} has the label {unknown[0]}. Labels must be one of {allowed}, or {ignored} for pixels without a"
                " class (--data.ignore_index). Correct the mask, or classes.txt."
            )
        if found.tolist() == [ignored]:
            raise UserError(f"{file} has no class: all of it is {ignored}, which is ignored. Remove it and its image.")
    classes = [label for label in existing if label != ignored]
    absent = [label for label in labels if label not in classes]
    if absent and classes != existing and not is_trained:
        raise UserError(
            f"no mask in {root / 'masks'} has the label {absent[0]} of classes.txt, but masks have {ignored}, which is"
            f" ignored (--data.ignore_index). Correct the masks or classes.txt, in which {ignored} may be a label too."
        )
    if not labels and not 1 < len(classes) <= MAX_UNNAMED_CLASSES:
        shown = ", ".join(map(str, classes[:5])) + (" …" if len(classes) > 5 else "")
        raise UserError(
            f"the masks in {root / 'masks'} have the labels {shown}, {len(classes)} in all, beside {ignored}, which is"
            f" ignored (--data.ignore_index); 2 to {MAX_UNNAMED_CLASSES} are classes. Write the number of its class"
            " into each pixel, no grey level and no number of a single object, or name the classes in classes.txt."
        )
    whites = {file: found for (_, file), found in zip(pairs, mask_labels, strict=True) if 255 in found}
    is_grey = not labels and 0 in existing and classes[-1] >= MAX_UNNAMED_CLASSES
    is_apart = all({*found} <= {0, 255} for found in whites.values())
    if whites and ignored == 255 and not is_trained and (is_grey or is_apart):
        raise UserError(
            f"255 is ignored (--data.ignore_index), but seems to be a class in {next(iter(whites))}: other labels are"
            f" {classes[:5]}. Write the number of its class into each pixel, no grey level, or name it in classes.txt."
        )
    if not is_trained:
        _note_unlike_palettes([file for _, file in pairs], palettes)
        if any(is_turned):
            text = f"{sum(is_turned)} of {len(pairs)} images are turned by their EXIF orientation, such as"
            text += f" {pairs[is_turned.index(True)][0]}"
            print_note(f"{text}. Their masks must be as the image is seen, not as its pixels are stored.")
    labels = labels or classes
    class_of_label = np.full(max(*existing, *labels) + 1, IGNORED, np.uint8)
    class_of_label[labels] = np.arange(len(labels))
    class_masks = torch.from_numpy(class_of_label[np.stack(masks)])
    pixels = torch.from_numpy(np.stack(images)) if keep_images else None
    names = known.get("class_names") or [f"label {label}" for label in labels]
    masked = MaskedImages(class_masks, shape, pixels, [file for file, _ in pairs])
    return masked, num_train, {"labels": labels, "class_names": names}


def _note_unlike_palettes(files: Sequence[Path], palettes: Sequence[Mapping[int, Any]]) -> None:
    """Report a label that has different colours in two masks."""
    known: dict[int, tuple[Any, Path]] = {}
    for file, palette in zip(files, palettes, strict=True):
        for label, colour in palette.items():
            first = known.setdefault(label, (colour, file))
            if colour != first[0]:
                text = f"the palettes of masks differ: {label} is the colour {first[0]} in {first[1]} and {colour} in"
                print_note(f"{text} {file}. The number is the class, not the colour: see that they agree.")
                return


def read_classes(root: Path) -> dict[str, Any]:
    """Read ``classes.txt``, a name in each line from label 0 on, or ``LABEL NAME``; without the file return nothing.

    Raises:
        UserError: A label is there twice, or there are too many.
    """
    file = root / "classes.txt"
    if not file.is_file():
        return {}
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
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


def find_pairs(roots: Sequence[Path]) -> list[tuple[Path, Path]]:
    """List each image of ``images/`` with its mask, the file of the same name in ``masks/``, root by root.

    Raises:
        UserError: A folder is missing or empty, or an image or a mask is alone.
    """
    folders = [root / kind for root in roots for kind in ("images", "masks")]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise UserError(
            f"{missing[0]} is missing: put your images into images/ beside it, and a mask of the same name for each, a"
            " PNG file, into masks/ (--data.root names another folder)."
        )
    found = find_files(folders, PICTURE_SUFFIXES)
    pairs = []
    for root in roots:
        images = _by_name(root / "images", found)
        masks = _by_name(root / "masks", found)
        for files, others, missing in ((images, masks, "masks"), (masks, images, "images")):
            alone = [name for name in files if name not in others]
            if alone:
                raise UserError(
                    f"{files[alone[0]]} has no counterpart {root / missing / alone[0]}.png ({len(alone)} such files)."
                    " Add it, or remove the file."
                )
        pairs += [(images[name], masks[name]) for name in images]
    return pairs


def _by_name(folder: Path, found: Mapping[Path, Sequence[Path]]) -> dict[Path, Path]:
    files: dict[Path, Path] = {}
    for file in found[folder]:
        name = file.relative_to(folder).with_suffix("")
        if name in files:
            raise UserError(f"{files[name]} and {file} have the same name. Rename one of them, or remove it.")
        files[name] = file
    return files


def _read_pair(
    pair: tuple[Path, Path], shape: Shape, keep_image: bool
) -> tuple[Any, np.ndarray, np.ndarray, dict[int, list[int]], bool]:
    """Read an image, None where it is not kept, its mask in the same size, the mask's labels, and their colours.

    A label is the grey level, or the number of a palette's colour. The last value tells whether EXIF turns the image.

    Raises:
        UserError: A file can't be read; or the mask has another size, has colours, or was compressed with losses.
    """
    file, mask_file = pair
    if mask_file.suffix.lower() not in MASK_SUFFIXES:
        raise UserError(f"{mask_file} must be a PNG file: a mask needs the exact number of each pixel's class.")
    try:
        with Image.open(mask_file) as picture:
            mode = picture.mode
            mask = np.asarray(picture)
            colours = picture.getpalette() or []
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{mask_file} can't be read as a mask: {reason(error)}. Replace it, or remove it.") from error
    if mask.ndim != 2 or mode == "F":
        raise UserError(
            f"{mask_file} has the mode {mode}; a mask holds the number of each pixel's class. Save it as a PNG file of"
            " one channel (mode L, I;16, or P with a palette)."
        )
    mask = mask.astype(np.int32)
    image = read_or_refuse(file, shape) if keep_image else None
    with Image.open(file) as picture:
        is_turned = picture.getexif().get(EXIF_ORIENTATION, 1) != 1
    width, height = picture_size(file)
    if (height, width) != mask.shape:
        raise UserError(
            f"{mask_file} is {mask.shape[1]} pixels wide and {mask.shape[0]} high, and {file} {width} and {height}, as"
            " it is seen. A mask must have the size of its image."
        )
    labels = np.unique(mask)
    palette = {label: colours[3 * label : 3 * label + 3] for label in labels.tolist() if colours}
    resized = Image.fromarray(mask).resize((shape[2], shape[1]), Image.Resampling.NEAREST)
    return image, np.asarray(resized), labels, palette, is_turned
