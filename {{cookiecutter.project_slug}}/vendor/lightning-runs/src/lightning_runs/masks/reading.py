"""Images as arrays of one size, and predicted masks as files, the same in training and in `predict`.

NumPy and Pillow alone: `predict` with an ONNX file works without torch.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.pictures import Shape, as_array, open_picture, picture_size, read_pictures
from ..reports.tables import Attachment

if TYPE_CHECKING:
    import numpy as np


def read_image(file: Path, shape: Shape) -> "np.ndarray":
    """Read an image and scale it to a height and width.

    Args:
        file: The file, of any format that Pillow knows. Decoders raise errors of many types.
        shape: Channels (3 for colour, 1 for grey), height and width of the result, uint8 ``(C, H, W)``.
    """
    from PIL import Image

    return as_array(open_picture(file, shape[0]).resize((shape[2], shape[1]), Image.Resampling.BILINEAR))


def class_colours(count: int) -> "np.ndarray":
    """Return the colours of labels from 0 on, those of PASCAL VOC, ``(count, 3)`` uint8; 0 is black."""
    import numpy as np

    labels = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for bit in range(8):  # three bits of a label go to the highest free bits of red, green and blue
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def mask_png(mask: "np.ndarray", labels: Sequence[int], size: tuple[int, int] | None = None) -> bytes:
    """Return a mask as a PNG file, in colours if all labels are below 256.

    Args:
        mask: The class of each pixel, ``(H, W)`` uint8.
        labels: The number in the file for each class.
        size: Width and height of the file; None leaves the mask's size.
    """
    import numpy as np
    from PIL import Image

    classes = Image.fromarray(mask)
    classes = classes.resize(size or classes.size, Image.Resampling.NEAREST)
    has_colours = max(labels) < 256
    numbers = np.asarray(labels, np.uint8 if has_colours else np.uint16)
    picture = Image.fromarray(numbers[np.asarray(classes)])
    if has_colours:
        picture = picture.convert("P")
        picture.putpalette(class_colours(256).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def rows(columns: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return the table of predictions: each mask as a file of its image's size, and the share of each class in it.

    Args:
        columns: ``file`` or ``index``, ``mask`` ``(H, W)`` uint8, and ``confidence``, with an entry for each image.
        facts: Facts of the model: ``class_names``, and ``labels``, their numbers in the files.
    """
    import numpy as np

    class_names = facts["class_names"]
    kind = "file" if "file" in columns else "index"
    body = []
    for name, mask, confidence in zip(columns[kind], columns["mask"], columns["confidence"], strict=True):
        mask = np.asarray(mask, np.uint8)
        size = picture_size(Path(name)) if kind == "file" else None
        stem = Path(name).stem if kind == "file" else name
        attached = Attachment(f"{stem}.png", mask_png(mask, facts["labels"], size))
        shares = np.bincount(mask.ravel(), minlength=len(class_names)) / mask.size
        body.append([name, attached, *(round(float(value), 6) for value in (confidence, *shares))])
    return [kind, "mask", "confidence", *(f"share({name})" for name in class_names)], body


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> "Iterator[tuple[str, dict[str, np.ndarray] | str]]":
    """Read new images for an exported model; see `read_pictures`."""
    return read_pictures(paths, facts, read_image)
