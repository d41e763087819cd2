"""Image files: which there are, and how each is read and brought to one size; the same in training and in `predict`.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.folders import find
from ..errors import UserError, reason

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_image(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read an image, scale it until it covers the height and width, and cut what is longer on both sides.

    Args:
        file: The file, of any format that Pillow knows. Decoders raise exceptions of many types.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, uint8 ``(C, H, W)``.
    """
    import numpy as np  # here, for it takes longer than most commands that need no image
    from PIL import Image, ImageOps

    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    with Image.open(file) as image:
        image.draft(mode, (width, height))  # a large JPEG is read at an eighth, quarter or half of its size
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would take every 16-bit grey above 255 for white
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        image = ImageOps.fit(image.convert(mode), (width, height), method=Image.Resampling.BILINEAR)
        return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new images for an exported model, whose ``facts`` name its input and the shape ``["batch", C, H, W]``.

    Yields:
        Each file's name with its image, uint8 ``(C, H, W)``, by the input's name, or with why it can't be read.

    Raises:
        UserError: There are no images, or the model takes something else.
    """
    first, *others = facts["inputs"]
    shape = tuple(first["shape"][1:])
    if others or first["dtype"] != "uint8" or len(shape) != 3 or not all(isinstance(size, int) for size in shape):
        raise UserError(f"the model takes {facts['inputs']}, and no images (batch, channels, height, width) of uint8.")
    for file in find(paths, IMAGE_SUFFIXES):
        try:
            yield str(file), {first["name"]: read_image(file, shape)}
        except Exception as error:  # decoders raise errors of many types
            yield str(file), f"it can't be read as an image: {reason(error)}"
