"""Picture files, read the same in training and in `predict`.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, reason
from .folders import find_files

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
EXIF_ORIENTATION = 274  # the number of the tag

Shape = tuple[int, int, int]  # channels, height and width


@dataclass(frozen=True)
class PictureSource:
    """What is known of a data set of pictures before it is read."""

    source: str  # what the pictures are and who made them, for the files that `export` writes
    mean: tuple[float, ...]  # of the training pixels, for each channel, 0 to 1
    std: tuple[float, ...]  # standard deviation of the same
    mirror: bool = False  # whether the mirror image of a picture has the same classes
    shape: Shape = (3, 0, 0)  # channels, height and width, which are 0 where they are an option
    class_names: tuple[str, ...] = ()  # in the order of the labels; empty where the files have them
    torchvision: str | None = None  # the class of torchvision.datasets that downloads and reads it


def open_picture(file: Path, channels: int, draft_size: tuple[int, int] | None = None) -> "Image":
    """Open a picture of any format that Pillow knows, turned as its camera was, and on white where it is transparent.

    ``channels`` are 3 for colour, 1 for grey. A large JPEG is read at an eighth, quarter or half, not below the width
    and height ``draft_size``. Decoders raise errors of many types.
    """
    from PIL import Image, ImageOps  # here, because most commands need no picture

    mode = "L" if channels == 1 else "RGB"
    with Image.open(file) as picture:
        if draft_size is not None:
            picture.draft(mode, draft_size)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode[0] in "FI":
            picture = in_eight_bits(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert(mode)


def in_eight_bits(picture: "Image") -> "Image":
    """Return a grey picture with levels from 0 to 255: floats from 0 to 1, and whole numbers to 65535, however dark."""
    from PIL import Image

    values = np.asarray(picture)
    white = 1 if picture.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= white):
        raise UserError(f"it has values of {values.min():g} to {values.max():g}, not 0 to {white}. Save it in 8 bits")
    levels = (values * 255).round() if white == 1 else values // 256
    return Image.fromarray(levels.astype(np.uint8))


def as_array(picture: "Image") -> np.ndarray:
    """Return the pixels of a picture, ``(C, H, W)`` uint8."""
    return np.array(picture).reshape(picture.height, picture.width, -1).transpose(2, 0, 1)


def picture_size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture, turned as its camera was."""
    from PIL import Image

    with Image.open(file) as picture:
        is_turned = picture.getexif().get(EXIF_ORIENTATION, 1) >= 5
        return (picture.height, picture.width) if is_turned else (picture.width, picture.height)


def read_pictures(
    paths: Sequence[str | Path], facts: Mapping[str, Any], read: Callable[[Path, Shape], np.ndarray]
) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new pictures for an exported model, whose facts have one input of the shape ``["batch", C, H, W]``, uint8.

    Yield the name of each file with its pixels by the input's name, or with the reason why it can't be read. The fact
    ``max_pixels`` limits them, because a small file may unfold to gigabytes.
    """
    inputs = facts["inputs"]
    shape = tuple(inputs[0]["shape"][1:])
    if len(inputs) > 1 or inputs[0]["dtype"] != "uint8" or [type(size) for size in shape] != [int, int, int]:
        raise UserError(f"the model's inputs are {inputs}; they must be one batch of uint8 pixels (C, H, W).")
    for file in chain(*find_files(paths, PICTURE_SUFFIXES).values()):
        try:
            if math.prod(picture_size(file)) > facts.get("max_pixels", math.inf):
                raise UserError(f"it has more than {facts['max_pixels']} pixels")
            yield str(file), {inputs[0]["name"]: read(file, shape)}
        except Exception as error:  # decoders raise errors of many types
            yield str(file), f"it can't be read as a picture: {reason(error)}"
