"""Exact resume for any data loader: a resumed run meets the batches that an uninterrupted one meets, and no other.

The order of an epoch is a function of the seed and the epoch. What is random in a batch (augmentation in
``__getitem__``, in a collate function, on the device, and dropout in the step) is a function of the seed, the epoch,
the loader, the rank and the batch. So nothing has to be stored: a resumed run leaves out the indices that are done,
without reading their items.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .data import BatchSampler
from .runs import Run

# Numbers, not names: the hash of a text differs from process to process.
STAGES = {"train": 0, "validate": 1, "sanity_check": 1, "test": 2, "predict": 3}
# Samplers that draw all their random numbers when an epoch begins are seeded then, others for each index.
_KNOWN_SAMPLERS = ("torch.utils.data.", "pytorch_lightning.", "lightning_fabric.")
_DEPTH, _ENTRIES = 4, 100  # how far generators are looked for in a data set
_END = object()


class ExactLoaders(Callback):
    """Wrap each loader of a Trainer, when the Trainer has prepared it.

    Args:
        seed: The run's seed.
        start: Epoch to begin with, and how many of its batches are done.
        run: The run that is trained, which records the notes; None records nothing.

    Attributes:
        notes: A sentence on each training loader that is not resumed exactly in all circumstances, or not shared.
    """

    def __init__(self, seed: int, start: tuple[int, int] = (0, 0), run: Run | None = None) -> None:
        self.seed = seed
        self.start = start
        self.run = run
        self.notes: list[str] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.trainer = trainer
        seeds = {"cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}
        self.seed_device = seeds.get(trainer.strategy.root_device.type)
        # Lightning calls this method for each loader, after it has chosen its sampler and before its workers start
        prepare = type(trainer.strategy).process_dataloader.__get__(trainer.strategy)
        trainer.strategy.process_dataloader = lambda loader: self.wrap(prepare(loader))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.notes:
            self.notes = list(dict.fromkeys(self.notes))
            print(*self.notes, sep="\n", flush=True)
            if self.run is not None:
                self.run.update(loaders=self.notes)

    def wrap(self, loader: Any) -> Any:
        """Return a loader that yields the same batches, exactly resumable where that is possible."""
        train = self.trainer.training
        stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        if stateful and train:
            return Snapshots(loader, self)
        if isinstance(loader, DataLoader) and not stateful:
            if train and isinstance(loader.dataset, IterableDataset):
                self._note_stream(loader.dataset)
            return _exact_copy(loader, self, train)
        if train:
            self._note_stream(loader)
        return Replayed(loader, self, train)

    def _note_stream(self, source: Any) -> None:
        name = type(source).__name__
        self.notes.append(
            f"{name} has no length and no state: a resumed run reads again what an epoch has behind it, which takes the"
            " time of reading. That is exact if it yields the same items each time. Add state_dict and load_state_dict"
            " to the loader to avoid it."
        )
        if self.trainer.world_size > 1:
            self.notes.append(
                f"{name} is not shared among the {self.trainer.world_size} processes: each trains on all of it, unless"
                " it takes a part of its own by its rank."
            )

    def position(self) -> tuple[int, int]:
        """The epoch that begins, and how many of its batches are done."""
        # the loader may be asked for its batches before Lightning has restored its own counter of epochs
        epoch = max(self.trainer.fit_loop.epoch_progress.current.processed, self.start[0])
        return epoch, self.start[1] if epoch == self.start[0] else 0

    def place(self, loader: Any) -> tuple[int, str]:
        """Number of a loader among those of its stage, and how they are combined."""
        loops = (self.trainer.fit_loop, self.trainer.fit_loop.epoch_loop.val_loop, self.trainer.validate_loop)
        for loop in (*loops, self.trainer.test_loop, self.trainer.predict_loop):
            combined = loop._combined_loader
            for number, one in enumerate(combined.flattened if combined is not None else ()):
                if one is loader:
                    return number, combined._mode
        return 0, "sequential"

    def begin(self, loader: Any, train: bool, length: int | None) -> tuple[tuple[int, ...], int, int]:
        """What the order of a pass over a loader follows from.

        Args:
            loader: The loader.
            train: Whether it is one for training.
            length: Batches of a pass, if that is known.

        Returns:
            The key of the order, which pass of the epoch it is (a loader begins again beside a longer one), and how
            many of its batches are done.
        """
        number, mode = self.place(loader)
        if not train:
            stage = self.trainer.state.stage
            return (self.seed, STAGES[stage.value if stage else "test"], number), 0, 0
        epoch, done = self.position()
        cycle, done = divmod(done, length) if length and mode == "max_size_cycle" else (0, done)
        return (self.seed, STAGES["train"], number, epoch), cycle, done

    def rank_key(self, key: tuple[int, ...]) -> int:
        """What the random numbers of a pass follow from on this rank."""
        return hash((*key, self.trainer.global_rank))


class _Pass:
    """Steps over a loader's batches, seeding the step on each, whatever kind of loader it is."""

    exact: ExactLoaders
    key: tuple[int, ...]
    ended = False
    epoch = -1
    cycle = 0

    def _begin(self, train: bool, length: int | None) -> int:
        epoch = self.exact.position()[0] if train else -1
        again = train and self.ended and epoch == self.epoch
        key, cycle, done = self.exact.begin(self, train, length)
        self.cycle, done = (self.cycle + 1, 0) if again else (cycle, done)
        self.key = (*key, self.cycle)
        self.epoch, self.ended = epoch, False
        return done

    def _steps(self, batches: Iterator[Any], done: int) -> Iterator[Any]:
        seed_device, key = self.exact.seed_device, self.exact.rank_key(self.key)
        for number in count(done):  # this is called in every step, so it is kept short
            batch = next(batches, _END)
            value = seed_of(key, number) ^ 1
            seed_streams(value)
            if seed_device is not None:
                seed_device(value)
            if batch is _END:  # seeded all the same, for a run that is resumed here fetches ahead too
                break
            yield batch
        self.ended = True


def _exact_copy(loader: DataLoader, exact: ExactLoaders, train: bool) -> DataLoader:
    """A loader of the same class with the same workers, whose order and randomness are functions of its position."""
    kind = type(type(loader).__name__, (_ExactDataLoader, type(loader)), {"__module__": __name__})
    new: Any = kind.__new__(kind)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # torch refuses to set these attributes of a loader
    vars(new).update(vars(loader) | {"exact": exact, "train": train, "_iterator": None})
    order = Order(getattr(loader, name), new)
    vars(new).update({name: order, "order": order})
    return new


class _ExactDataLoader(_Pass):
    """What `_exact_copy` adds to a DataLoader."""

    order: Order
    train: bool

    def __iter__(self) -> Iterator[Any]:
        loader: Any = self
        streams = isinstance(loader.dataset, IterableDataset)
        try:
            length = None if streams else len(loader)
        except TypeError:
            length = None
        done = self._begin(self.train, length)
        self.order.begin(self.key, 0 if streams else done)
        batches = super().__iter__()  # type: ignore[misc]
        if streams:
            for _ in range(done):
                next(batches, None)
        return self._steps(batches, done)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: Lightning is to know that it can be resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: the position follows from Lightning's own counters."""


class Order:
    """Stands in the place of a loader's batch sampler, or sampler: leaves out what is done, and seeds each batch.

    Args:
        inner: The sampler.
        loader: The loader that it belongs to.
    """

    def __init__(self, inner: Any, loader: Any) -> None:
        self.inner = inner
        self.loader = loader
        self._key: tuple[int, ...] = ()
        self._done = 0
        self._held = generators(inner)
        self._seed_each = not _is_known(inner)
        self._items: list[Any] | None = None

    def begin(self, key: tuple[int, ...], done: int) -> None:
        """Set what the next pass follows from, and how many of its batches are left out."""
        self._key, self._done = key, done

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[Any]:
        key, done, exact = self._key, self._done, self.loader.exact
        if self.loader.train:
            _set_epoch(self.inner, key[3])
        plain = isinstance(self.inner, BatchSampler) and self.loader.num_workers == 0
        indices = self._draw(key)
        for _ in range(done):
            next(indices, None)
        if plain and getattr(self.loader.dataset, "draws_nothing", False):
            yield from indices
            return
        if self.loader.num_workers == 0 and self._items is None:
            self._items = generators(self.loader.dataset)
        rank_key = exact.rank_key(key)
        for number, index in zip(count(done), indices, strict=False):
            value = seed_of(rank_key, number)
            if self.loader.num_workers:
                yield SeededIndex(index, value)
            else:
                seed_streams(value, self._items or ())
                yield index

    def _draw(self, key: tuple[int, ...]) -> Iterator[Any]:
        """Draw from the sampler. All ranks draw alike, for each takes its share from the same order."""
        order = hash(key)
        seed_streams(seed_of(order, 0), self._held)
        indices = iter(self.inner)
        if not self._seed_each:
            yield from indices
            return
        for number in count():
            seed_streams(seed_of(order, number))
            index = next(indices, _END)
            if index is _END:
                return
            yield index


class SeededIndex:
    """A batch's index on its way to a worker, which is seeded when it arrives there; from then on it is the index."""

    def __init__(self, index: Any, value: int) -> None:
        self.index = index
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.index, self.value)


_held_by_worker: list[Any] | None = None


def _arrive(index: Any, value: int) -> Any:
    global _held_by_worker
    worker = get_worker_info()
    if worker is not None:
        if _held_by_worker is None:
            _held_by_worker = generators(worker.dataset)
        seed_streams(value, _held_by_worker)
    return index


class Snapshots(_Pass):
    """A loader that has a state of its own: the state before each of the latest batches is kept.

    Lightning asks for the state when a batch, and without a length one more, is fetched already; a resumed run would
    leave these out.
    """

    def __init__(self, loader: Any, exact: ExactLoaders) -> None:
        self.loader = loader
        self.exact = exact
        self._states: deque[tuple[int, Any]] = deque(maxlen=4)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        done = self._begin(True, None)
        return self._steps(self._batches(done), done)

    def _batches(self, done: int) -> Iterator[Any]:
        batches, key = iter(self.loader), self.exact.rank_key(self.key)
        for number in count(done):
            self._states.append((number, copy.deepcopy(self.loader.state_dict())))
            seed_streams(seed_of(key, number))
            batch = next(batches, _END)
            if batch is _END:
                return
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The loader's state before the batch that is trained next."""
        trained = self.exact.trainer.fit_loop.epoch_loop.batch_progress.current.processed
        found = [state for number, state in self._states if number == trained]
        return {"loader": found[-1] if found else self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state["loader"])


class Replayed(_Pass):
    """Any other iterable: a resumed run reads again what is done, and drops it."""

    def __init__(self, loader: Any, exact: ExactLoaders, train: bool) -> None:
        self.loader = loader
        self.exact = exact
        self.train = train

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        done = self._begin(self.train, len(self.loader) if hasattr(self.loader, "__len__") else None)
        batches = self._batches()
        for _ in range(done):
            next(batches, None)
        return self._steps(batches, done)

    def _batches(self) -> Iterator[Any]:
        key = self.exact.rank_key(self.key)
        seed_streams(seed_of(key, 0))
        batches = iter(self.loader)
        for number in count():
            seed_streams(seed_of(key, number))
            batch = next(batches, _END)
            if batch is _END:
                return
            yield batch


def seed_of(key: int, number: int) -> int:
    """A seed for one batch; the hash of whole numbers is the same in every process."""
    return hash((key, number)) & (2**63 - 1)


def seed_streams(value: int, held: list[Any] | tuple[Any, ...] = ()) -> None:
    """Seed torch on the CPU, NumPy and ``random``, and generators that a data set or sampler holds."""
    torch.default_generator.manual_seed(value)  # 1 µs, for `torch.manual_seed` takes 89
    np.random.seed(value & 0xFFFFFFFF)
    random.seed(value)
    for generator in held:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(value)
        elif isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            bits.state = type(bits)(value).state
        else:
            generator.seed(value & 0xFFFFFFFF)


def generators(owner: Any) -> list[Any]:
    """Random generators in the attributes of a data set or sampler, in its lists and dicts, and in what it wraps."""
    found: list[Any] = []
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if depth > _DEPTH or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            found.append(value)
        elif isinstance(value, dict):
            for entry in list(value.values())[:_ENTRIES]:
                look(entry, depth + 1)
        elif isinstance(value, list | tuple):
            for entry in value[:_ENTRIES]:
                look(entry, depth + 1)
        elif hasattr(value, "__dict__") and not isinstance(value, type | torch.Tensor | pl.Trainer):
            look(vars(value), depth)

    look(owner, 0)
    return found


def _is_known(sampler: Any) -> bool:
    inner = getattr(sampler, "sampler", None)
    known = isinstance(sampler, BatchSampler) or type(sampler).__module__.startswith(_KNOWN_SAMPLERS)
    return known and (inner is None or _is_known(inner))


def _set_epoch(sampler: Any, epoch: int) -> None:
    for one in (sampler, getattr(sampler, "sampler", None)):
        if callable(set_epoch := getattr(one, "set_epoch", None)):
            set_epoch(epoch)
