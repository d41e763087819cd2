import pytest
import torch
from lightning_runs.data.batches import BatchSampler, Levels, batch_loader
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
def test_ranks_validate_every_item_and_train_equally_many(world_size) -> None:
    ranks = [{"rank": rank, "world_size": world_size} for rank in range(world_size)]
    assert sorted(index for rank in ranks for index in order(**rank)) == list(range(100))
    shares = [order(shuffle=True, equal_shares=True, **rank) for rank in ranks]
    assert [len(share) for share in shares] == [8 * (100 // (8 * world_size))] * world_size
    assert len(set().union(*shares)) == sum(map(len, shares))


@pytest.mark.parametrize(("overfit_batches", "shuffles"), [(0, True), (2, False)])
def test_batches_that_are_overfitted_are_the_same_in_each_epoch(overfit_batches, shuffles) -> None:
    trainer = Trainer(accelerator="cpu", devices=1, overfit_batches=overfit_batches, logger=False)
    batches = batch_loader(TensorDataset(torch.arange(100)), torch.arange(100), 8, train=True, trainer=trainer)
    assert (next(iter(batches))[0].tolist() != list(range(8))) == shuffles


@pytest.mark.parametrize("world_size", [1, 2])
def test_items_of_like_length_make_a_batch(world_size) -> None:
    lengths = torch.randint(1, 100, (1000,), generator=torch.Generator().manual_seed(0))
    indices = torch.arange(1000) + 7

    def batches(rank: int, **options) -> list[torch.Tensor]:
        return [*BatchSampler(indices, 10, lengths=lengths, rank=rank, world_size=world_size, **options)]

    ranks = [batches(rank, shuffle=True, equal_shares=True) for rank in range(world_size)]
    assert torch.cat([batch for rank in ranks for batch in rank]).sort().values.equal(indices)
    found = torch.stack([lengths[batch - 7] for batch in ranks[0]])
    assert 1 - found.sum() / (10 * found.amax(dim=1).sum()) < 0.05  # of padding
    places = torch.arange(len(found)).float()
    assert abs(torch.corrcoef(torch.stack([found.float().mean(dim=1), places]))[0, 1]) < 0.4
    assert lengths[torch.cat(batches(0)) - 7].diff().min() >= 0


def test_levels_are_normalised_and_come_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 2, 128, 1)
    normalize = Levels((0.2, 0.6), (0.5, 0.1))
    numbers = normalize(levels)
    assert numbers[0, 1, 0, 0].item() == pytest.approx((128 - 0.6 * 255) / (0.1 * 255))
    assert normalize.denormalize(numbers).equal(levels)
