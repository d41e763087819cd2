"""Items that are split into training, validation and test parts."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError


def random_order(count: int, seed: int, labels: Any = None) -> np.ndarray:
    """Return the items in a random order, ``(count,)`` int64.

    With labels, the items of a class stand together, so that `held_out_mask` takes its share of each class.
    """
    order = np.random.default_rng(seed).permutation(count)
    return order if labels is None else order[np.argsort(np.asarray(labels)[order], kind="stable")]


def held_out_mask(count: int, fraction: float, fold: int | None = 0, num_folds: int | None = None) -> np.ndarray:
    """Mark the positions of an order that are held out, evenly spread over it, ``(count,)`` bool.

    That is the part ``fold``, from 0, of ``num_folds`` parts, and nothing without a fold; or else a fraction.
    """
    if num_folds:
        return np.arange(count) % num_folds == (-1 if fold is None else fold)
    return np.diff(np.floor(np.arange(count + 1) * fraction + 0.5)) > 0


def split_indices(
    count: int,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    test_fraction: float,
    val_fraction: float,
    seed: int,
    fold: int | None = 0,
    num_folds: int | None = None,
) -> dict[str, Tensor]:
    """Split items into ``train``, ``val`` and ``test``; return the indices of each part, ``(N,)`` int64.

    Args:
        count: Number of items.
        labels: The class of each, ``(count,)``: each part has its share, but a class of one item is for training alone.
        groups: The group of each, ``(count,)``: the items of a group are in the same part.
        test_fraction: Fraction of all items that is tested.
        val_fraction: Fraction of the other items that is used for validation.
        seed: Seed of the choice.
        fold: The part of ``num_folds`` of the other items that is used for validation; see `held_out_mask`.
        num_folds: Number of these parts; None uses ``val_fraction``.

    Raises:
        UserError: A class has no group in the training part.
    """
    unit_of_item = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = random_order(unit_of_item.max() + 1, seed, labels if groups is None else None)
    is_test = held_out_mask(len(order), test_fraction)
    part_of_unit = np.full(len(order), "train")
    part_of_unit[order[is_test]] = "test"
    rest = order[~is_test]
    part_of_unit[rest[held_out_mask(len(rest), val_fraction, fold, num_folds)]] = "val"
    parts = part_of_unit[unit_of_item]
    for part, others in (("test", ("train", "val")), ("val", ("train",))):
        if labels is None:
            break
        is_rare = (parts == part) & ~np.isin(labels, labels[np.isin(parts, others)])
        if groups is not None and is_rare.any():
            raise UserError(
                f"data.group leaves the class {min(labels[is_rare])} without a group in the training part."
                " Try another --data.split_seed."
            )
        parts[is_rare] = "train"
    return {part: torch.from_numpy(np.flatnonzero(parts == part)) for part in ("train", "val", "test")}
