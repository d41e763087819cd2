"""Image files: which there are, and how each is read and brought to one size; the same in training and in `predict`.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .runtime.errors import UserError, reason

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def find(paths: Iterable[str | Path]) -> list[Path]:
    """List the files among paths, and the image files below the folders among them."""
    files = []
    for path in map(Path, paths):
        below = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        files += sorted(below) if path.is_dir() else [path]
    return files


def read_image(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, scale it until it covers the height and width, and cut what is longer on both sides.

    Args:
        file: The file, of any format that Pillow knows.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, in pixels.

    Returns:
        The image, uint8 ``(C, H, W)``.

    Raises:
        UserError: The file can't be read as an image.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(file) as image:
            image.draft(mode, (width, height))  # a large JPEG is read at an eighth, quarter or half of its size
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # Pillow would take every 16-bit grey above 255 for white
                image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
            image = ImageOps.fit(image.convert(mode), (width, height), method=Image.Resampling.BILINEAR)
            return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # decoders raise errors of many types
        raise UserError(f"{file} can't be read as an image: {reason(error)}.") from error


def read(paths: Iterable[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray | UserError]]:
    """Read new images for an exported model, whose ``facts`` have the ``input_shape`` ``[C, H, W]``.

    Yields:
        Each file's name with its image, uint8 ``(C, H, W)``, or with the error for which it can't be read.
    """
    for file in find(paths):
        try:
            yield str(file), read_image(file, tuple(facts["input_shape"]))
        except UserError as error:
            yield str(file), error
