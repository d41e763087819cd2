"""Items that are gathered in whole batches by index, and the levels of the pixels in a batch."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from ..errors import UserError
from .classes import class_weights

POOL = 50  # batches that are sorted by length at a time


class Items(Dataset):
    """Items in memory; ``items[indices]`` gathers a whole batch in one operation for each tensor.

    Each tensor has one entry for each item, ``(N, …)``. The last one holds the labels, ``(N,)``.
    """

    draws_nothing = True  # no random numbers, so batches need no seed

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


@dataclass(eq=False)
class BatchSampler(SequentialSampler, DistributedSampler):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Yield the batches of an epoch as tensors of indices; the order is a function of seed and epoch alone.

    It is a `SequentialSampler` by type, because Lightning's ``overfit_batches`` replaces any other sampler by one that
    yields single indices, and a `DistributedSampler`, because Lightning would share the indices out a second time.

    With ``equal_shares`` every rank has the same number of whole batches, as distributed training needs: items that do
    not fill a batch on every rank are left out of this epoch. Otherwise the ranks share all items, none twice.
    """

    indices: Tensor  # of the part into its data set, (N,) int64
    batch_size: int
    shuffle: bool = False
    equal_shares: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    weights: Tensor | None = None  # by which shuffled indices are drawn with replacement, (N,) float
    lengths: Tensor | None = None  # of the items, (N,) int64: a batch has items of like length, and little padding
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.equal_shares and len(self) == 0:
            share = f" on each of {self.world_size} devices" if self.world_size > 1 else ""
            text = f"data.batch_size is {self.batch_size}{share}, but there are {len(self.indices)} items to train on."
            raise UserError(f"{text} Choose a smaller --data.batch_size.")

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; this is called when the epoch starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.equal_shares:
            return len(self.indices) // (self.batch_size * self.world_size)
        return -(-len(self.indices[self.rank :: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride] whole batches
        entropy = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(entropy) >> 1)
        positions = torch.arange(len(self.indices))
        if self.shuffle and self.weights is not None:
            positions = torch.multinomial(self.weights, len(positions), replacement=True, generator=generator)
        elif self.shuffle:
            positions = torch.randperm(len(positions), generator=generator)
        positions = positions[self.rank :: self.world_size][: len(self) * self.batch_size]
        if self.lengths is None:
            yield from self.indices[positions].split(self.batch_size)
            return
        # shuffled items are sorted within pools, so that other ones meet in each epoch
        pool_size = POOL * self.batch_size if self.shuffle else len(positions)
        batches = []
        for pool in positions.split(pool_size):
            batches += pool[self.lengths[pool].argsort(stable=True)].split(self.batch_size)
        order = torch.randperm(len(batches), generator=generator) if self.shuffle else torch.arange(len(batches))
        for number in order.tolist():
            yield self.indices[batches[number]]


def batch_loader(
    dataset: Dataset,
    indices: Tensor,
    batch_size: int,
    *,
    train: bool = False,
    seed: int = 0,
    trainer: Any = None,
    num_workers: int = 0,
    classes: Tensor | None = None,
    lengths: Tensor | None = None,
) -> DataLoader:
    """Return the loader of a data set that is indexed by whole batches, ``dataset[(B,) int64]``, such as `Items`.

    Args:
        dataset: The data set; an item is a tuple of tensors.
        indices: The indices of the part, ``(N,)`` int64.
        batch_size: Items per batch on each device.
        train: Permute the items in each epoch, but not under ``overfit_batches``, and yield whole batches alone.
        seed: Seed of the order.
        trainer: The Trainer, which knows how many processes share the items; None is one process.
        num_workers: Processes that load batches.
        classes: The class of each index, ``(N,)`` int64: as many indices of each class are drawn in an epoch.
        lengths: The length of each index's item, ``(N,)`` int64: items of like length make a batch.
    """
    shuffle = train and not (trainer and trainer.overfit_batches)
    weights = None if classes is None else class_weights(classes)[classes]
    rank = trainer.global_rank if trainer else 0
    world_size = trainer.world_size if trainer else 1
    batches = BatchSampler(indices, batch_size, shuffle, train, seed, rank, world_size, weights, lengths)
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,  # the sampler yields whole batches of indices
        collate_fn=tuple,  # and the data set whole batches of tensors
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
    )


class Levels(nn.Module):
    """Map levels from 0 to 255, ``(B, C, H, W)`` uint8, to float with about mean 0 and standard deviation 1.

    ``mean`` and ``std`` are the mean and the standard deviation of each channel, 0 to 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean).mul(255)[:, None, None])
        self.std = nn.Buffer(torch.tensor(std).mul(255)[:, None, None])

    def forward(self, levels: Tensor) -> Tensor:
        """Normalise levels."""
        if self.mean.device != levels.device:  # once: a data module's attributes are not moved by Lightning
            self.to(levels.device)
        return levels.float().sub_(self.mean).div_(self.std)

    def denormalize(self, images: Tensor) -> Tensor:
        """Return the levels of normalised images, to look at a batch."""
        return images.float().mul(self.std).add_(self.mean).round_().clamp_(0, 255).byte()
