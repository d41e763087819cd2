"""Exact resume for any data loader: a resumed run meets the batches that an uninterrupted one meets, and no other.

The order of an epoch is a function of the seed and the epoch. What is random in a batch (augmentation in
``__getitem__``, in a collate function, on the device, and dropout in the step) is a function of the seed, the epoch,
the loader, the rank and the batch. So nothing has to be stored: a resumed run leaves out the indices that are done,
without reading their items.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import sized_len
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, IterableDataset

from .randomness import END, Order, seed_of, seed_streams
from .runs import Run

# Numbers, not names: the hash of a text differs from process to process.
STAGES = {"train": 0, "validate": 1, "sanity_check": 1, "test": 2, "predict": 3}
Key = tuple[int, ...]  # what the order and the random numbers of a pass over a loader follow from


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

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        self.trainer = trainer
        seeds = {"cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}
        self.seed_device = seeds.get(trainer.strategy.root_device.type)
        # Lightning calls this method for each loader, after it has chosen its sampler and before its workers start
        strategy: Any = trainer.strategy
        prepare = type(strategy).process_dataloader.__get__(strategy)
        strategy.process_dataloader = lambda loader: self.wrap(prepare(loader))

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
        indexed = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
        if train and not stateful and not indexed:
            self._note(type(getattr(loader, "dataset", loader)).__name__, getattr(loader, "num_workers", 0))
        if isinstance(loader, DataLoader) and not stateful:
            return _exact_copy(loader, self, train)
        return Iterated(loader, self, train, stateful)

    def _note(self, name: str, num_workers: int) -> None:
        self.notes.append(
            f"{name} has neither indices nor a state: a resumed run reads again what an epoch has behind it, which"
            " takes the time of reading. That is exact if it yields the same items each time. Add state_dict and"
            " load_state_dict to the loader to avoid it."
        )
        sharers = {"processes": self.trainer.world_size, "worker processes": num_workers}
        self.notes += [
            f"{name} is not shared among the {count} {kind}: each reads all of it, unless it takes a part of its own."
            for kind, count in sharers.items()
            if count > 1
        ]

    def position(self) -> tuple[int, int]:
        """The epoch that begins, and how many of its batches are done."""
        # the loader may be asked for its batches before Lightning has restored its own counter of epochs
        epoch = max(self.trainer.fit_loop.epoch_progress.current.processed, self.start[0])
        return epoch, self.start[1] if epoch == self.start[0] else 0

    def place(self, loader: Any) -> tuple[int, str]:
        """Number of a loader among those of its stage, and how they are combined."""
        trainer: Any = self.trainer
        loops = (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop)
        combined_loaders: list[Any] = [loop._combined_loader for loop in (*loops, trainer.predict_loop)]
        for combined in combined_loaders:
            for number, one in enumerate(combined.flattened if combined is not None else ()):
                if one is loader:
                    return number, combined._mode
        return 0, "sequential"


class _Pass:
    """Steps over a loader's batches, and seeds the step on each, whatever kind of loader it is."""

    exact: ExactLoaders
    train: bool
    key: Key
    epoch, cycle, ended = -1, 0, False

    def _begin(self, length: int | None) -> int:
        """Set the key of the next pass, and return how many of its batches are done."""
        exact = self.exact
        number, mode = exact.place(self)
        if not self.train:
            stage = exact.trainer.state.stage
            self.key = (exact.seed, STAGES[stage.value if stage else "test"], number)
            return 0
        epoch, done = exact.position()
        if self.ended and epoch == self.epoch:  # beside a longer loader it begins again within an epoch
            self.cycle, done = self.cycle + 1, 0
        else:
            self.cycle, done = divmod(done, length) if length and mode == "max_size_cycle" else (0, done)
        self.key, self.epoch, self.ended = (exact.seed, STAGES["train"], number, epoch, self.cycle), epoch, False
        return done

    @property
    def rank_key(self) -> int:
        """What random numbers follow from on this rank."""
        return hash((*self.key, self.exact.trainer.global_rank))

    def _steps(self, batches: Iterator[Any], done: int) -> Iterator[Any]:
        seed_device, key = self.exact.seed_device, self.rank_key
        for number in count(done):  # this is called in every step, so it is kept short
            batch = next(batches, END)
            value = seed_of(key, number) ^ 1
            seed_streams(value)
            if seed_device is not None:
                seed_device(value)
            if batch is END:  # seeded all the same, for a run that is resumed here fetches ahead too
                break
            yield batch
        self.ended = True


def _exact_copy(loader: DataLoader, exact: ExactLoaders, train: bool) -> DataLoader:
    """A loader of the same class with the same workers, whose order and randomness follow from its position."""
    kind = type(type(loader).__name__, (_ExactDataLoader, type(loader)), {"__module__": __name__})
    new: Any = kind.__new__(kind)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # torch refuses to set these attributes of a loader
    vars(new).update(vars(loader) | {"exact": exact, "train": train, "_iterator": None})
    vars(new)[name] = vars(new)["order"] = Order(getattr(loader, name), new)
    return new


class _ExactDataLoader(_Pass):
    """What `_exact_copy` adds to a DataLoader."""

    order: Order

    def __iter__(self) -> Iterator[Any]:
        loader: Any = self
        streams = isinstance(loader.dataset, IterableDataset)
        done = self._begin(None if streams else sized_len(loader))
        self.order.done = 0 if streams else done
        batches = super().__iter__()  # pyright: ignore[reportAttributeAccessIssue] that of the loader's own class
        for _ in range(done if streams else 0):
            next(batches, None)
        return self._steps(batches, done)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position follows from Lightning's own counters. Lightning only looks whether this is there."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing, as in `state_dict`."""


class Iterated(_Pass):
    """Any other iterable. One with a state of its own goes on from it; of another, what is done is read and dropped.

    Lightning asks for the state when a batch, and without a length one more, is fetched already. A resumed run would
    leave these out, so the state before each of the latest batches is kept.
    """

    def __init__(self, loader: Any, exact: ExactLoaders, train: bool, stateful: bool) -> None:
        self.loader = loader
        self.exact = exact
        self.train = train
        self._replays = not stateful
        self._states: deque[tuple[int, Any]] = deque(maxlen=4)
        if stateful and train:
            self.state_dict, self.load_state_dict = self._state, lambda state: loader.load_state_dict(state["loader"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("loader", "state_dict", "load_state_dict"):
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        done = self._begin(sized_len(self.loader) if self._replays else None)
        batches = self._batches(0 if self._replays else done)
        for _ in range(done if self._replays else 0):
            next(batches, None)
        return self._steps(batches, done)

    def _batches(self, first: int) -> Iterator[Any]:
        key = self.rank_key
        seed_streams(seed_of(key, first))
        batches = iter(self.loader)
        for number in count(first):
            if not self._replays:
                self._states.append((number, copy.deepcopy(self.loader.state_dict())))
            seed_streams(seed_of(key, number))
            batch = next(batches, END)
            if batch is END:
                return
            yield batch

    def _state(self) -> dict[str, Any]:
        """The loader's state before the batch that is trained next."""
        trained = self.exact.trainer.fit_loop.epoch_loop.batch_progress.current.processed
        found = [state for number, state in self._states if number == trained]
        return {"loader": found[-1] if found else self.loader.state_dict()}
