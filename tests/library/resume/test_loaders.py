"""Loaders of every kind are resumed exactly."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_runs.resume.loaders import ExactLoaders, Iterated
from lightning_runs.resume.randomness import generators, seed_of
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from toy import ToyData
from written import assert_same, record


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(48):
            numbers = torch.randn(4)
            yield numbers, numbers.sum()


class StreamData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Stream(), batch_size=self.batch_size)


def test_a_stream_is_named_and_read_again(run, interrupt, capsys) -> None:
    assert run("fit", "--run", "whole", data=StreamData) == 0
    assert "Stream has neither indices nor a state" in capsys.readouterr().out
    interrupt("stopped", data=StreamData)
    assert run("fit", "--resume", data=StreamData) == 0
    assert [note.split()[0] for note in record("stopped")["loaders"]] == ["Stream"]
    assert record("stopped")["fingerprint"] is None
    assert_same("stopped", "whole")


class Position:
    """A loader that keeps its own position."""

    def __init__(self, batches: list[list[Tensor]]) -> None:
        self.batches = batches
        self.next = 0
        self.read: list[int] = []

    def __iter__(self) -> Iterator[list[Tensor]]:
        for number in range(self.next % len(self.batches), len(self.batches)):
            self.next = number + 1
            self.read.append(self.next)
            yield self.batches[number]

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class PositionOfSix(Position):
    """With a length, no batch is read ahead of the one that is trained."""

    def __len__(self) -> int:
        return 6


@pytest.mark.parametrize("kind", [Position, PositionOfSix])
def test_a_stateful_loader_continues_from_its_position(kind, run, interrupt) -> None:
    made = []

    class PositionData(ToyData):
        def train_dataloader(self) -> Position:
            made.append(kind(list(super().train_dataloader())))
            return made[-1]

    assert run("fit", "--run", "whole", data=PositionData) == 0
    interrupt("stopped", data=PositionData)
    assert run("fit", "--resume", data=PositionData) == 0
    assert made[-1].read == [4, 5, 6, 1, 2, 3, 4, 5, 6]  # of the second epoch and of the third
    assert "loaders" not in record("stopped")
    assert_same("stopped", "whole")


class Lookup(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.read.append(index)
        return torch.full((4,), float(index)) / 48, torch.tensor(index / 12)


def test_finished_items_are_not_read_again(run, interrupt) -> None:
    dataset = Lookup()

    class LookupData(ToyData):
        def fingerprint(self) -> str:  # else some items would be read for it
            return "the same"

        def train_dataloader(self) -> DataLoader:
            return DataLoader(dataset, batch_size=self.batch_size, shuffle=True)

    interrupt("a", data=LookupData)
    dataset.read.clear()
    assert run("fit", "--resume", data=LookupData) == 0
    assert len(dataset.read) == 3 * 8 + 48


@pytest.mark.parametrize("kind", ["torch", "numpy", "random state", "list"])
def test_the_generators_of_a_data_set_are_found(kind) -> None:
    found = {
        "torch": torch.Generator(),
        "numpy": np.random.default_rng(),
        "random state": np.random.RandomState(),
        "list": torch.Generator(),
    }[kind]
    dataset = Lookup()
    dataset.held = {"deep": [found]} if kind == "list" else found  # type: ignore[attr-defined]
    subset = torch.utils.data.Subset(dataset, [0, 1])
    assert [id(one) for one in generators(subset)] == [id(found)]
    assert generators(torch.utils.data.Subset(Lookup(), [0])) == []


def test_each_process_has_random_numbers_of_its_own() -> None:
    keys = set()
    for rank in (0, 1):
        exact = ExactLoaders(seed=1)
        exact.trainer = SimpleNamespace(global_rank=rank)
        loader = Iterated([], exact, train=True, stateful=False)
        loader.key = (1, 0, 0, 0, 0)
        keys.add(loader.rank_key)
    assert len(keys) == 2


def test_the_seed_of_a_batch_is_the_same_in_every_process() -> None:
    assert seed_of(hash((1, 0, 0, 2)), 3) == seed_of(hash((1, 0, 0, 2)), 3)
    seeds = {
        seed_of(hash((1, 0, 0, epoch, rank)), batch) for epoch in range(9) for rank in (0, 1) for batch in range(99)
    }
    assert len(seeds) == 9 * 2 * 99
