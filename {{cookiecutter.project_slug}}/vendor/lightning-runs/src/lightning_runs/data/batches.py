"""What several kinds of data need: items shared out to parts, and batches gathered by index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from ..errors import UserError
from .splits import class_weights

POOL = 50  # batches that are sorted by length at a time


@dataclass(eq=False)
class BatchSampler(SequentialSampler, DistributedSampler):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Yield the batches of an epoch as tensors of indices; the order is a function of seed and epoch alone.

    It is a `SequentialSampler` by type, because Lightning's ``overfit_batches`` replaces any other sampler by one that
    yields single indices, and a `DistributedSampler`, because Lightning would share the indices out a second time.

    Args:
        indices: Indices of the split into its data set, ``(N,)`` int64.
        batch_size: Items per batch.
        shuffle: Permute the indices anew in each epoch.
        equal_shares: Give every rank the same number of whole batches, as distributed training needs: what does not
            fill a batch on every rank is left out of this epoch. Otherwise the ranks share all items, none twice.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes.
        weights: Shuffled indices are drawn anew, each as often on average as its weight says, ``(N,)`` float; None
            takes each once.
        lengths: The length of each index's item, ``(N,)`` int64: items of like length make a batch, so that little of
            it is padding. Batches stay in a random order where indices are shuffled.

    Raises:
        UserError: There are not enough items for a whole batch of equal shares.
    """

    indices: Tensor
    batch_size: int
    shuffle: bool = False
    equal_shares: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    weights: Tensor | None = None
    lengths: Tensor | None = None
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.equal_shares and len(self) == 0:
            share = f" on each of {self.world_size} devices" if self.world_size > 1 else ""
            raise UserError(
                f"data.batch_size is {self.batch_size}{share}, but there are only {len(self.indices)} items for"
                " training. Choose a smaller --data.batch_size."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of that epoch; it is called at each epoch's start."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.equal_shares:
            return len(self.indices) // (self.batch_size * self.world_size)
        return -(-len(self.indices[self.rank :: self.world_size]) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride] whole batches
        places, generator = torch.arange(len(self.indices)), None
        if self.shuffle:
            entropy = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(entropy) >> 1)
            if self.weights is None:
                places = torch.randperm(len(places), generator=generator)
            else:
                places = torch.multinomial(self.weights, len(places), replacement=True, generator=generator)
        places = places[self.rank :: self.world_size][: len(self) * self.batch_size]
        if self.lengths is None:
            yield from self.indices[places].split(self.batch_size)
            return
        # shuffled items are sorted within pools, so that other ones meet in each epoch
        pools = places.split(POOL * self.batch_size) if generator else [places]
        batches = [b for of in pools for b in of[self.lengths[of].argsort(stable=True)].split(self.batch_size)]
        for i in torch.randperm(len(batches), generator=generator).tolist() if generator else range(len(batches)):
            yield self.indices[batches[i]]


def gathered(
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
    """A loader of a data set that is indexed by whole batches, ``dataset[(B,) int64]``, and returns tuples of tensors.

    A data set that draws no random numbers has ``draws_nothing = True``, which saves seeding each batch.

    Args:
        dataset: The data set.
        indices: Which of its items belong to the split, ``(N,)`` int64.
        batch_size: Items per batch on each device.
        train: Permute the items in each epoch, but not under ``overfit_batches``, in whole batches for each process.
        seed: Seed of the order.
        trainer: Tells how many processes share the items; None is one.
        num_workers: Processes that load batches.
        classes: The class of each index, ``(N,)`` int64: shuffled indices are drawn, of each class as many.
        lengths: As of `BatchSampler`.
    """
    shuffle = train and not (trainer and trainer.overfit_batches)
    weights = None if classes is None else class_weights(classes)[classes]
    rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
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

