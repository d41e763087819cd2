"""Image files: which there are, and how each is read and brought to one size; the same in training and in `predict`.

NumPy and Pillow alone: `predict` from an ONNX file answers without importing torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


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
