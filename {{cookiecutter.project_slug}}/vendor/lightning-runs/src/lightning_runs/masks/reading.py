"""Image files, how each is read and brought to one size, and masks, how each is written; the same in every command.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.folders import find
from ..errors import UserError, reason
from ..reports.tables import Attachment

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_image(file: Path, shape: Sequence[int]) -> np.ndarray:
    """Read an image and scale it to a height and width.

    Args:
        file: The file, of any format that Pillow knows. Decoders raise exceptions of many types.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, uint8 ``(C, H, W)``.
    """
    import numpy as np  # here, for it takes longer than most commands that need no image
    from PIL import Image, ImageOps

    channels, height, width = shape
    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would take every 16-bit grey above 255 for white
            image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height of an image as it is seen: a photo that a camera has marked as turned is turned."""
    from PIL import Image

    with Image.open(file) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(274, 1) >= 5 else (width, height)  # the tag of EXIF for it


def colours(count: int) -> np.ndarray:
    """Return the colours of labels from 0 on, those of PASCAL VOC, ``(count, 3)`` uint8; 0 is black."""
    import numpy as np

    found = np.zeros((count, 3), np.uint8)
    for bit in range(8):  # three bits of a label go to the highest free bits of red, green and blue
        for channel in range(3):
            found[:, channel] |= ((np.arange(count) >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return found


def draw_mask(mask: np.ndarray, labels: Sequence[int], size: tuple[int, int] | None = None) -> bytes:
    """Write classes ``(H, W)`` uint8 as a PNG file of ``labels`` in a width and height; below 256, in colours."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(mask)
    picture = picture.resize(size or picture.size, Image.Resampling.NEAREST)
    wide = max(labels) > 255
    picture = Image.fromarray(np.asarray(labels, np.uint16 if wide else np.uint8)[np.asarray(picture)])
    if not wide:
        picture = picture.convert("P")
        picture.putpalette(colours(256).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def rows(columns: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return the table of predictions: the mask of each image as a file in its own size, and shares of its pixels.

    ``columns`` are ``file`` or ``index``, ``mask`` ``(H, W)`` uint8, and ``confidence``, with an entry for each image.
    """
    import numpy as np

    names, labels = facts["class_names"], facts["labels"]
    kind = "file" if "file" in columns else "index"
    body = []
    for name, mask, confidence in zip(columns[kind], columns["mask"], columns["confidence"], strict=True):
        mask = np.asarray(mask, np.uint8)
        file = Path(name) if kind == "file" else None
        picture = draw_mask(mask, labels, size_of(file) if file else None)
        shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
        attached = Attachment(f"{file.stem if file else name}.png", picture)
        body.append([name, attached, *(round(float(value), 6) for value in (confidence, *shares))])
    return [kind, "mask", "confidence", *(f"share({name})" for name in names)], body


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new images for an exported model, whose ``facts`` name its input and the shape ``["batch", C, H, W]``.

    Yields:
        Each file's name with its image, uint8 ``(C, H, W)``, by the input's name, or with why it can't be read.

    Raises:
        UserError: There are no images, or the model takes something else.
    """
    first, *others = facts["inputs"]
    shape = tuple(first["shape"][1:])
    if others or first["dtype"] != "uint8" or len(shape) != 3 or "labels" not in facts:
        raise UserError(f"the model takes {facts['inputs']}, and no images (batch, channels, height, width) of uint8.")
    for file in find(paths, IMAGE_SUFFIXES):
        try:
            yield str(file), {first["name"]: read_image(file, shape)}
        except Exception as error:  # decoders raise errors of many types
            yield str(file), f"it can't be read as an image: {reason(error)}"
