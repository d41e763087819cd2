"""Image files as arrays of one size, the same in training and in `predict`.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.pictures import Shape, as_array, open_picture, read_pictures

if TYPE_CHECKING:
    import numpy as np


def read_image(file: Path, shape: Shape) -> "np.ndarray":
    """Read an image, scale it until it covers the height and width, and cut off what is longer on both sides.

    Args:
        file: The file, of any format that Pillow knows. Decoders raise errors of many types.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, uint8 ``(C, H, W)``.
    """
    from PIL import Image, ImageOps

    size = (shape[2], shape[1])
    image = open_picture(file, shape[0], draft_size=size)
    return as_array(ImageOps.fit(image, size, method=Image.Resampling.BILINEAR))


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> "Iterator[tuple[str, dict[str, np.ndarray] | str]]":
    """Read new images for an exported model; see `read_pictures`."""
    return read_pictures(paths, facts, read_image)
