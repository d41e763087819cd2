"""Image files that are read when their batch is due."""

import math
import mmap
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.batches import Items
from ..data.classes import note_similar_names
from ..data.folders import file_states, find_files, labelled_files
from ..data.pictures import PICTURE_SUFFIXES, Shape
from ..errors import UserError, reason
from .reading import read_image

CACHE_BYTES = 2**30  # images that need more are not kept in memory, unless the user asks for it
UNREAD = 0  # states of a file
CACHED = 1
CORRUPT = 2


class ImageFiles(Items):
    """Images that stay on disk; ``files[indices]`` reads a whole batch.

    Args:
        files: The image files.
        labels: Their labels, ``(N,)`` int64.
        shape: Channels, height and width of the images that are read.
        skip_corrupt: Warn of a file that can't be read, and leave it out; otherwise it is an error.
        cache: Keep the images in memory once they are read, for the next epoch.
    """

    def __init__(
        self, files: Sequence[Path], labels: Tensor, shape: Shape, skip_corrupt: bool = False, cache: bool = False
    ) -> None:
        super().__init__(labels)
        self.files = list(files)
        self.shape = shape
        self.skip_corrupt = skip_corrupt
        self._state = _shared_bytes(len(files))
        self._cache: Tensor | None = None
        if cache:
            self._cache = _shared_bytes(len(files) * math.prod(shape)).view(len(files), *shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": None}  # a process that is not forked does not share the memory

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, ...]:
        if self._cache is not None and bool((self._state[indices] == CACHED).all()):
            return self._cache.index_select(0, indices), self.labels[indices]
        images = []
        readable = []
        for index in indices.tolist():
            image = self._read(index)
            if image is not None:
                images.append(image)
                readable.append(index)
        if not images:
            raise UserError(
                f"none of the {len(indices)} images of a batch can be read; the first is {self.files[indices[0]]}."
            )
        return torch.stack(images), self.labels[readable]

    def _read(self, index: int) -> Tensor | None:
        """Read an image; None where it can't be read and is left out."""
        try:
            image = torch.from_numpy(read_image(self.files[index], self.shape))
        except Exception as error:  # decoders raise errors of many types
            text = f"{self.files[index]} can't be read as an image: {reason(error)}."
            if not self.skip_corrupt:
                raise UserError(f"{text} Replace it, or leave such files out with --data.skip_corrupt true.") from error
            if self._state[index] != CORRUPT:
                self._state[index] = CORRUPT
                warnings.warn(f"{text} It is left out.", stacklevel=2)
            return None
        if self._cache is not None:
            self._cache[index] = image
            self._state[index] = CACHED
        return image

    def readable(self, indices: Tensor) -> Tensor:
        """Return the indices whose images can be read; files are only tried where corrupt ones are left out."""
        if not self.skip_corrupt:
            return indices
        with ThreadPoolExecutor() as pool:
            is_readable = list(pool.map(self._is_readable, indices.tolist()))
        return indices[is_readable]

    def _is_readable(self, index: int) -> bool:
        if self._state[index] == UNREAD:
            return self._read(index) is not None
        return bool(self._state[index] == CACHED)

    def content(self) -> Iterator[Any]:
        """Yield bytes that change when a label changes or a file is replaced."""
        yield from super().content()
        yield from file_states(self.files)


def _shared_bytes(count: int) -> Tensor:
    """Return zeros, ``(count,)`` uint8, in memory that forked worker processes share.

    It is not in /dev/shm, where torch would put it and which may be small; pages are taken as they are filled.
    """
    return torch.frombuffer(mmap.mmap(-1, count), dtype=torch.uint8)


def read_image_folder(
    root: Path, class_names: list[str], shape: Shape, skip_corrupt: bool = False, cache: bool | None = None
) -> dict[str, ImageFiles]:
    """List the images of a folder, ``train/CLASS/IMAGE``, ``test/CLASS/IMAGE`` and, where it exists, ``val/``.

    Training and validation images are kept in memory with ``cache``; None does so where they need less than 1 GB.

    Raises:
        UserError: A folder is missing, or has other classes.
    """
    note_similar_names(class_names, root)
    names = [part for part in ("train", "val", "test") if part != "val" or (root / part).is_dir()]
    found = labelled_files([root / part for part in names], class_names, PICTURE_SUFFIXES)
    parts = {}
    for part, (files, labels) in zip(names, found, strict=True):
        is_cached = len(files) * math.prod(shape) < CACHE_BYTES if cache is None else cache
        parts[part] = ImageFiles(files, torch.tensor(labels), shape, skip_corrupt, is_cached and part != "test")
    return parts


def read_new_images(paths: Sequence[str | Path], shape: Shape) -> tuple[ImageFiles, Tensor]:
    """Return the images in files and folders, and the indices of those that can be read, ``(N,)`` int64.

    Raises:
        UserError: There are none, or none of them can be read.
    """
    files = [*chain(*find_files(paths, PICTURE_SUFFIXES).values())]
    is_small = len(files) * math.prod(shape) < CACHE_BYTES
    images = ImageFiles(files, torch.arange(len(files)), shape, skip_corrupt=True, cache=is_small)
    readable = images.readable(torch.arange(len(files)))  # a batch without any would end the others too
    if not len(readable):
        raise UserError(f"none of {len(files)} images can be read; the first is {files[0]}.")
    return images, readable
