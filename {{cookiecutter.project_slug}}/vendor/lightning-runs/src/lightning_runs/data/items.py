"""Data sets that are indexed by whole batches."""

from collections.abc import Iterator
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Items(Dataset):
    """Items in memory; ``items[indices]`` gathers a whole batch in one operation for each tensor.

    Args:
        tensors: One entry for each item in each, ``(N, …)``. The last tensor holds the labels, ``(N,)``.

    Attributes:
        draws_nothing: No random numbers are drawn, so batches need no seed.
    """

    draws_nothing = True

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    @property
    def labels(self) -> Tensor:
        """The label of each item, ``(N,)``, or the item's own number after `numbered`."""
        return self.tensors[-1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, ...]:
        # eight times as fast as `tensor[indices]`
        return tuple(tensor.index_select(0, indices) for tensor in self.tensors)

    def classes(self, indices: Tensor) -> Tensor:
        """Return the classes of these items, for statistics, ``(M,)``; an item may have several."""
        return self.labels[indices]

    def readable(self, indices: Tensor) -> Tensor:
        """Return the indices whose items can be read: in memory, all of them."""
        return indices

    def numbered(self) -> Self:
        """Return a copy whose labels are the numbers of the items, ``(N,)`` int64, for predictions."""
        other = copy(self)
        other.tensors = (*self.tensors[:-1], torch.arange(len(self)))
        return other

    def content(self) -> Iterator[Any]:
        """Yield bytes, or arrays of one dimension, that change when an item or a label changes."""
        for tensor in self.tensors:
            yield tensor.contiguous().view(-1).numpy()
