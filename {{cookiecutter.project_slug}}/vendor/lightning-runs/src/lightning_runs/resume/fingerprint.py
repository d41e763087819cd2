"""The fingerprint of training data that have none of their own: the number of items, and a hash of some of them."""

import hashlib
from types import SimpleNamespace
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from .randomness import Order

HASHED_ITEMS = 16  # of each loader


def items_fingerprint(loaders: list[Any]) -> str | None:
    """Return the number of items and a hash of some, which are read with the same random numbers each time.

    None if the items have no numbers, or consist of other things than tensors, numbers and texts.
    """
    total = 0
    digest = hashlib.blake2b(digest_size=8)
    with isolate_rng():
        try:
            for loader in loaders:
                count = len(loader.dataset)
                for item in _some_items(loader, range(0, count, -(-count // HASHED_ITEMS))):
                    plain = apply_to_collection(default_collate([item]), Tensor, _hash)
                    digest.update(repr(plain).encode())
                total += count
        except Exception:  # of a stream, of items that can't be collated, or of a data set that takes no numbers
            return None
    return f"{total} items, {digest.hexdigest()}"


def _some_items(loader: DataLoader, indices: range) -> DataLoader:
    """Read items where the loader reads them: files that a data set opens must not be open when workers are forked."""
    workers = min(1, loader.num_workers)
    place = SimpleNamespace(dataset=loader.dataset, num_workers=workers, key=(0,), rank_key=0, train=False)
    return DataLoader(
        loader.dataset,
        batch_size=None,
        sampler=Order(indices, place),
        num_workers=workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
