"""Random numbers of a batch: each batch has seeds of its own, in the process or in the worker that loads it."""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import get_worker_info

from ..data.batches import BatchSampler

# How far a data set is searched for generators: nested containers, and entries of each.
_DEPTH = 4
_ENTRIES = 100
END = object()


class Order:
    """Replaces a loader's batch sampler, or sampler: skips finished batches, and seeds each other one."""

    def __init__(self, inner: Any, loader: Any) -> None:
        self.inner = inner
        self.loader = loader
        self.done = 0
        self._generators = generators(inner)
        self._seed_each = not isinstance(inner, BatchSampler)  # it draws only at the start of an epoch
        draws = self._seed_each or not getattr(loader.dataset, "draws_nothing", False)
        self._in_workers = loader.num_workers > 0
        self._seeds_items = draws or self._in_workers
        self._item_generators = generators(loader.dataset) if draws and not self._in_workers else ()

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[Any]:
        key = self.loader.key
        rank_key = self.loader.rank_key
        done = self.done
        if self.loader.train:
            for sampler in (self.inner, getattr(self.inner, "sampler", None)):
                set_epoch = getattr(sampler, "set_epoch", None)
                if set_epoch is not None:
                    set_epoch(key[3])
        indices = self._draw(hash(key))
        for _ in range(done):
            next(indices, None)
        if not self._seeds_items:
            yield from indices
            return
        for number, index in zip(count(done), indices, strict=False):
            value = seed_of(rank_key, number)
            if self._in_workers:
                yield SeededIndex(index, value)
            else:
                seed_streams(value, self._item_generators)
                yield index

    def _draw(self, order: int) -> Iterator[Any]:
        """Draw from the sampler. All ranks draw alike, because each takes its share from the same order."""
        seed_streams(seed_of(order, 0), self._generators)
        indices = iter(self.inner)
        if not self._seed_each:
            yield from indices
            return
        for number in count():
            seed_streams(seed_of(order, number))
            index = next(indices, END)
            if index is END:
                return
            yield index


class SeededIndex(NamedTuple):
    """A batch's index on its way to a worker; its arrival seeds the worker and leaves the index."""

    index: Any
    value: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.index, self.value)


def _arrive(index: Any, value: int) -> Any:
    if get_worker_info() is not None:
        seed_streams(value, _worker_generators())
    return index


@cache
def _worker_generators() -> list[Any]:
    worker: Any = get_worker_info()
    return generators(worker.dataset)


def seed_of(key: int, number: int) -> int:
    """Return the seed of a batch; the hash of whole numbers is the same in every process."""
    return hash((key, number)) & (2**63 - 1)


def seed_streams(value: int, others: Sequence[Any] = ()) -> None:
    """Seed torch on the CPU, NumPy and ``random``, and other generators."""
    torch.default_generator.manual_seed(value)  # 1 µs; `torch.manual_seed` takes 89
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)
    for own, generator in enumerate(others, value + 1):  # each has numbers of its own
        if isinstance(generator, torch.Generator):
            generator.manual_seed(own)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(own).state
        else:
            generator.seed(own & 0xFFFFFFFF)


def generators(owner: Any) -> list[Any]:
    """Return the random generators in the attributes of a data set, sampler or module, and in whatever it wraps."""
    found: list[Any] = []
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if depth > _DEPTH or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            found.append(value)
        elif isinstance(value, dict | list | tuple):
            for entry in list(value.values() if isinstance(value, dict) else value)[:_ENTRIES]:
                look(entry, depth + 1)
        elif hasattr(value, "__dict__") and not isinstance(value, type | torch.Tensor | pl.Trainer):
            look(vars(value), depth)

    look(owner, 0)
    return found
