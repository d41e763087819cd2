import pytest
import torch

from {{ cookiecutter.__package }}.runtime.data import BatchSampler


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
