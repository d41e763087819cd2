"""Batches that are gathered by index."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from ..errors import UserError
from .classes import class_weights

POOL = 50  # batches that are sorted by length at a time


@dataclass(eq=False)
class BatchSampler(SequentialSampler, DistributedSampler):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Yield the batches of an epoch as tensors of indices; the order is a function of seed and epoch alone.

    It is a `SequentialSampler` by type, because Lightning's ``overfit_batches`` replaces any other sampler by one that
    yields single indices, and a `DistributedSampler`, because Lightning would share the indices out a second time.

    With ``equal_shares`` every rank has the same number of whole batches, as distributed training needs: items that do
    not fill a batch on every rank are left out of this epoch. Otherwise the ranks share all items, none twice.

    Raises:
        UserError: There are not enough items for a whole batch of equal shares.
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
            raise UserError(
                f"data.batch_size is {self.batch_size}{share}, but there are only {len(self.indices)} items for"
                " training. Choose a smaller --data.batch_size."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; this is called when the epoch starts."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.equal_shares:
            return len(self.indices) // (self.batch_size * self.world_size)
        return -(-len(self.indices[self.rank :: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride] whole batches
        generator = self._generator() if self.shuffle else None
        positions = self._positions(generator)[self.rank :: self.world_size][: len(self) * self.batch_size]
        if self.lengths is None:
            yield from self.indices[positions].split(self.batch_size)
            return
        # shuffled items are sorted within pools, so that other ones meet in each epoch
        pools = [positions] if generator is None else positions.split(POOL * self.batch_size)
        batches = []
        for pool in pools:
            batches += pool[self.lengths[pool].argsort(stable=True)].split(self.batch_size)
        order = range(len(batches))
        if generator is not None:
            order = torch.randperm(len(batches), generator=generator).tolist()
        for number in order:
            yield self.indices[batches[number]]

    def _generator(self) -> torch.Generator:
        entropy = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(entropy) >> 1)

    def _positions(self, generator: torch.Generator | None) -> Tensor:
        """Return the positions of an epoch's indices, in their order, ``(N,)`` int64."""
        count = len(self.indices)
        if generator is None:
            return torch.arange(count)
        if self.weights is None:
            return torch.randperm(count, generator=generator)
        return torch.multinomial(self.weights, count, replacement=True, generator=generator)


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
