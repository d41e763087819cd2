import numpy as np
import pytest
import torch
from lightning_runs.data.batches import BatchSampler, batch_loader
from lightning_runs.data.classes import class_weights
from lightning_runs.data.splits import held_out_mask, random_order
from pytorch_lightning import Trainer
from torch.utils.data import TensorDataset


def order(epoch: int = 0, **options) -> list[int]:
    batches = BatchSampler(torch.arange(100), batch_size=8, **options)
    batches.set_epoch(epoch)
    batches_of_epoch = list(batches)
    assert len(batches_of_epoch) == len(batches)
    return torch.cat(batches_of_epoch).tolist()


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = order(shuffle=True, seed=1, epoch=0)
    assert sorted(first) == list(range(100))
    assert order(shuffle=True, seed=1, epoch=0) == first
    assert order(shuffle=True, seed=1, epoch=1) != first
    assert order(shuffle=True, seed=2, epoch=0) != first
    assert order(shuffle=False, epoch=3) == list(range(100))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_share_all_validation_images_none_twice(world_size) -> None:
    seen = [index for rank in range(world_size) for index in order(rank=rank, world_size=world_size)]
    assert sorted(seen) == list(range(100))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_ranks_train_on_equally_many_whole_batches(world_size) -> None:
    seen = []
    for rank in range(world_size):
        batches = BatchSampler(torch.arange(100), 8, shuffle=True, equal_shares=True, rank=rank, world_size=world_size)
        assert [len(batch) for batch in batches] == [8] * (100 // (8 * world_size))
        seen += torch.cat(list(batches)).tolist()
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("overfit_batches", "shuffles"), [(0, True), (2, False)])
def test_batches_that_are_overfitted_are_the_same_in_each_epoch(overfit_batches, shuffles) -> None:
    trainer = Trainer(accelerator="cpu", devices=1, overfit_batches=overfit_batches, logger=False)
    dataset = TensorDataset(torch.arange(100))
    batches = batch_loader(dataset, torch.arange(100), 8, train=True, trainer=trainer)
    assert (next(iter(batches))[0].tolist() != list(range(8))) == shuffles


LABELS = np.array([0] * 70 + [1] * 20 + [2] * 10)


def test_weights_give_each_class_the_same_part() -> None:
    labels = torch.from_numpy(LABELS)
    weights = class_weights(labels, 4)
    assert [weights[labels[labels == i]].sum().item() for i in range(3)] == pytest.approx([100 / 3] * 3)
    assert weights[labels].mean().item() == pytest.approx(1)
    assert weights.isfinite().all()


def test_each_class_is_drawn_as_often_in_training_alone() -> None:
    dataset, labels = TensorDataset(torch.arange(100)), torch.from_numpy(LABELS)

    def drawn(epoch: int, **options) -> torch.Tensor:
        loader = batch_loader(dataset, torch.arange(100), 10, seed=1, classes=labels, **options)
        loader.sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        return torch.cat([indices for (indices,) in loader])

    epochs = [drawn(epoch, train=True) for epoch in range(60)]
    assert all(len(epoch) == 100 for epoch in epochs)
    shares = labels[torch.cat(epochs)].bincount() / 6000
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert epochs[0].equal(drawn(0, train=True))
    assert not epochs[0].equal(epochs[1])
    assert drawn(0).equal(torch.arange(100))


def test_a_shuffled_order_has_each_item_once() -> None:
    first = random_order(100, 0)
    assert sorted(first.tolist()) == list(range(100))
    assert (random_order(100, 0) == first).all()
    assert (random_order(100, 1) != first).any()
    assert first.tolist() != sorted(first.tolist())


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_each_class_has_its_share_of_what_is_held_out_mask(fraction) -> None:
    order = random_order(100, 0, LABELS)
    counts = np.bincount(LABELS[order[held_out_mask(100, fraction)]], minlength=3)
    assert (np.abs(counts - fraction * np.bincount(LABELS)) < 1).all()
    assert counts.sum() == 100 * fraction


def test_which_items_of_a_class_are_held_out_follows_the_seed() -> None:
    first, second = (set(random_order(100, seed, LABELS)[held_out_mask(100, 0.2)].tolist()) for seed in (0, 1))
    assert first != second


def test_each_item_is_held_out_in_one_fold() -> None:
    order = random_order(100, 0, LABELS)
    folds = [order[held_out_mask(100, 0.1, fold, 3)] for fold in range(3)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(100))
    for fold in folds:
        assert (np.abs(np.bincount(LABELS[fold], minlength=3) - np.bincount(LABELS) / 3) < 1).all()


def test_without_a_fold_of_them_nothing_is_held_out_mask() -> None:
    assert not held_out_mask(100, 0.1, None, 3).any()


@pytest.mark.parametrize("world_size", [1, 2])
def test_items_of_like_length_make_a_batch(world_size) -> None:
    lengths = torch.randint(1, 100, (1000,), generator=torch.Generator().manual_seed(0))
    indices = torch.arange(1000) + 7

    def batches(rank: int, **options) -> list[torch.Tensor]:
        sampler = BatchSampler(indices, 10, lengths=lengths, rank=rank, world_size=world_size, **options)
        assert len(sampler) == len([*sampler])
        return [*sampler]

    ranks = [batches(rank, shuffle=True, equal_shares=True) for rank in range(world_size)]
    assert torch.cat([batch for rank in ranks for batch in rank]).sort().values.equal(indices)
    for rank in ranks:
        of = [lengths[batch - 7] for batch in rank]
        padding = 1 - sum(int(each.sum()) for each in of) / sum(10 * int(each.max()) for each in of)
        assert padding < 0.05
        means = torch.stack([each.float().mean() for each in of])
        assert abs(torch.corrcoef(torch.stack([means, torch.arange(len(of)).float()]))[0, 1]) < 0.4
    in_order = batches(0)
    assert lengths[torch.cat(in_order) - 7].diff().min() >= 0
