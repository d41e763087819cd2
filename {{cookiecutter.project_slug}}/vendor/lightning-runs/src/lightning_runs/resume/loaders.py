"""Exact resume for any data loader: a resumed run has exactly the batches of an uninterrupted one.

The order of an epoch is a function of the seed and the epoch. The randomness of a batch (augmentation in
``__getitem__``, in a collate function and on the device, and dropout in the step) is a function of the seed, the epoch,
the loader, the rank and the batch. So nothing has to be stored: a resumed run skips the finished indices without
reading their items.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import sized_len
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, IterableDataset

from ..runs import Run
from .randomness import END, Order, generators, seed_of, seed_streams

# Numbers, not names: the hash of a text differs from process to process.
STAGES = {"train": 0, "validate": 1, "sanity_check": 1, "test": 2, "predict": 3, "None": 2}


class ExactLoaders(Callback):
    """Wrap each loader of a Trainer, when the Trainer has prepared it."""

    def __init__(self, seed: int, start: tuple[int, int] = (0, 0), run: Run | None = None) -> None:
        self.seed = seed
        self.start = start  # the first epoch, and how many of its batches are finished
        self.run = run  # records the notes
        self.notes: list[str] = []  # a sentence about each training loader that is not always resumed exactly

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        self.trainer = trainer
        seeds = {"cuda": torch.cuda.manual_seed, "mps": torch.mps.manual_seed}
        self.seed_device = seeds.get(trainer.strategy.root_device.type)
        # Lightning calls this method for each loader, after the choice of its sampler and before its workers start
        strategy: Any = trainer.strategy
        prepare = type(strategy).process_dataloader.__get__(strategy)
        strategy.process_dataloader = lambda loader: self.wrap(prepare(loader))

    def on_train_start(self, trainer: Any, pl_module: pl.LightningModule) -> None:
        between = trainer.reload_dataloaders_every_n_epochs
        if between > 1:
            text = f"The loaders are built again every {between} epochs. A resumed run builds those of its epoch."
            self.notes.append(f"{text} Results stay the same if train_dataloader does not depend on the epoch.")
        if trainer.is_global_zero and self.notes:
            self.notes = list(dict.fromkeys(self.notes))
            print(*self.notes, sep="\n", flush=True)
            if self.run is not None:
                self.run.update(loaders=self.notes)

    def wrap(self, loader: Any) -> Any:
        """Return a loader that yields the same batches, exactly resumable where that is possible."""
        train = self.trainer.training
        iterates_itself = not isinstance(loader, DataLoader) or hasattr(loader, "state_dict")
        if train and (iterates_itself or isinstance(loader.dataset, IterableDataset)):
            name = type(getattr(loader, "dataset", loader)).__name__
            text = f"{name} can't be resumed in mid-epoch: a resume reads its finished part again, which takes time."
            self.notes.append(f"{text} Results stay the same if it yields the same items each time.")
            if self.trainer.world_size > 1 or getattr(loader, "num_workers", 0) > 1:
                self.notes.append(f"{name} is not split: each process reads all of it, unless your code splits it.")
        return Iterated(loader, self, train) if iterates_itself else _exact_copy(loader, self, train)


class _Pass:
    """Iterates over a loader's batches, and seeds the step of each, whatever the loader's kind."""

    exact: ExactLoaders
    train: bool
    key: tuple[int, ...]  # decides the order and the random numbers of this pass
    epoch = -1
    cycle = 0
    ended = False

    def _begin(self) -> int:
        """Set the key of the next pass, and return how many of its batches are finished."""
        exact = self.exact
        trainer = exact.trainer
        combined: Any = getattr(trainer._active_loop, "_combined_loader", None)  # None where a user's code reads it
        loaders = [] if combined is None else combined.flattened
        number = next((number for number, loader in enumerate(loaders) if loader is self), 0)
        if not self.train:
            self.key = (exact.seed, STAGES[str(trainer.state.stage and trainer.state.stage.value)], number)
            return 0
        # the loader may be asked for its batches before Lightning has restored its own counter of epochs
        epoch = max(trainer.fit_loop.epoch_progress.current.processed, exact.start[0])
        done = exact.start[1] if epoch == exact.start[0] else 0
        length = sized_len(self)
        if self.ended and epoch == self.epoch:  # a loader beside a longer one starts again within an epoch
            self.cycle += 1
            done = 0
        elif length and combined is not None and combined._mode == "max_size_cycle":
            self.cycle, done = divmod(done, length)
        else:
            self.cycle = 0
        self.key = (exact.seed, STAGES["train"], number, epoch, self.cycle)
        self.epoch = epoch
        self.ended = False
        return done

    @property
    def rank_key(self) -> int:
        """The key of random numbers on this rank."""
        return hash((*self.key, self.exact.trainer.global_rank))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: Lightning's own counters give the position, but it warns of loaders without a state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing, like `state_dict`."""

    def _steps(self, batches: Iterator[Any], done: int) -> Iterator[Any]:
        if done > (sized_len(self) or done):
            return  # it ended earlier than the loader beside it, which seeds the step
        seed_device = self.exact.seed_device
        others = generators(self.exact.trainer.lightning_module)
        key = self.rank_key
        for number in count(done):  # the code of every step, so it is short
            batch = next(batches, END)
            value = seed_of(key, number) ^ 1
            seed_streams(value, others)
            if seed_device is not None:
                seed_device(value)
            if batch is END:  # after seeding, because a run that is resumed here fetches ahead too
                break
            yield batch
        self.ended = True


def _exact_copy(loader: DataLoader, exact: ExactLoaders, train: bool) -> DataLoader:
    """Return a loader of the same class with the same workers, whose position decides its order and randomness."""
    kind = type(type(loader).__name__, (_ExactDataLoader, type(loader)), {"__module__": __name__})
    new: Any = kind.__new__(kind)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # torch refuses to set these attributes of a loader
    vars(new).update(vars(loader) | {"exact": exact, "train": train, "_iterator": None})
    order = Order(getattr(loader, name), new)
    vars(new).update({"order": order, name: order})
    return new


class _ExactDataLoader(_Pass):
    """The part of a DataLoader that `_exact_copy` adds."""

    order: Order

    def __iter__(self) -> Iterator[Any]:
        loader: Any = self
        streams = isinstance(loader.dataset, IterableDataset)
        done = self._begin()
        self.order.done = 0 if streams else done
        batches = super().__iter__()  # pyright: ignore[reportAttributeAccessIssue] of the loader's own class
        for _ in range(done if streams else 0):
            next(batches, None)
        return self._steps(batches, done)


class Iterated(_Pass):
    """Any other iterable, which is read up to its position again."""

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
        done = self._begin()
        batches = self._batches()
        for _ in range(done):
            next(batches, None)
        return self._steps(batches, done)

    def _batches(self) -> Iterator[Any]:
        key = self.rank_key
        others = generators(self.loader)
        seed_streams(seed_of(key, 0), others)
        batches = iter(self.loader)
        for number in count():
            seed_streams(seed_of(key, number), others)
            batch = next(batches, END)
            if batch is END:
                return
            yield batch
