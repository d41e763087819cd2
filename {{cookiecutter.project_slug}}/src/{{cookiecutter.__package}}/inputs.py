"""Read new images, without torch: for ``predict``, by a run or by an exported model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .runtime.errors import UserError, reason

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Find the image files in folders, and below them; a path that is no folder is taken as it is.

    Args:
        paths: Image files and folders. A file that does not exist stays in the list, for reading it says so.

    Raises:
        UserError: There are none.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        else:
            files.append(path)
    if not files:
        raise UserError(f"there is no image; files in folders must end in one of {' '.join(IMAGE_SUFFIXES)}.")
    return files


def read(paths: Iterable[str | Path], facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read images as an exported model takes them.

    Args:
        paths: Image files and folders.
        facts: What the exported file says of itself: ``inputs`` has the name, dtype and shape of its input.

    Yields:
        A file, and its image as the input of that name, uint8 ``(C, H, W)``; or why it can't be read.

    Raises:
        UserError: There are no images, or the model takes something else.
    """
    first, *others = facts["inputs"]
    shape = tuple(first["shape"][1:])
    if others or first["dtype"] != "uint8" or len(shape) != 3 or not all(isinstance(size, int) for size in shape):
        raise UserError(f"the model takes {facts['inputs']}, and no images (batch, channels, height, width) of uint8.")
    for file in find(paths):
        try:
            image = read_image(file, shape)
        except Exception as error:  # whatever the decoder raises
            yield str(file), f"it can't be read as an image: {reason(error)}"
        else:
            yield str(file), {first["name"]: image}


def read_image(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image file; it is scaled until it covers the height and width, and what is longer is cut on both sides.

    Args:
        file: The file, of any format that Pillow knows.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, in pixels.

    Returns:
        The image, uint8 ``(C, H, W)``.

    Raises:
        Exception: The file can't be read as an image; whatever the decoder raises.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    with Image.open(file) as image:
        image.draft(mode, (width, height))  # a large JPEG is read at an eighth, quarter or half of its size
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would take every 16-bit grey above 255 for white
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        image = image.convert(mode)
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
        return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)
