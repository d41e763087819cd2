"""Items that are shared out to training, validation and test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError


def shuffled(count: int, seed: int, labels: Any = None) -> np.ndarray:
    """Shuffle items, ``(count,)`` int64; with labels, those of a class stand together, and `held_out` is stratified."""
    order = np.random.default_rng(seed).permutation(count)
    return order if labels is None else order[np.argsort(np.asarray(labels)[order], kind="stable")]


def held_out(count: int, fraction: float, fold: int | None = 0, num_folds: int | None = None) -> np.ndarray:
    """Mark the items of a shuffled order that are held out, evenly spread over it, ``(count,)`` bool.

    Args:
        count: Number of items.
        fraction: The share of them that is held out, 0 to 1, where there are no folds.
        fold: With ``num_folds``, which of so many parts is held out, from 0; None holds out nothing.
        num_folds: Number of parts, each of which is held out once; None takes the fraction.
    """
    if num_folds:
        return np.arange(count) % num_folds == (-1 if fold is None else fold)
    return np.diff(np.floor(np.arange(count + 1) * fraction + 0.5)) > 0


def class_weights(labels: Tensor, num_classes: int = 0) -> Tensor:
    """Weigh each class, ``(num_classes,)`` float, so that all have the same sum over their items. The items' mean is 1.

    Args:
        labels: The class of each item, ``(N,)`` int64.
        num_classes: Number of classes, if the last ones may have no item.
    """
    counts = labels.bincount(minlength=num_classes)
    return len(labels) / (counts.clamp(min=1) * (counts > 0).sum())


def split(
    count: int,
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    test_fraction: float,
    val_fraction: float,
    seed: int,
    fold: int | None = 0,
    num_folds: int | None = None,
) -> dict[str, Tensor]:
    """Share out items to ``train``, ``val`` and ``test``; return the indices of each part, ``(N,)`` int64.

    Args:
        count: Number of items.
        labels: The class of each, ``(count,)``: each part gets its share, but a rare one is for training alone.
        groups: The group of each, ``(count,)``: groups are shared out in the place of items.
        test_fraction: The share of the test items in all.
        val_fraction: The share of the validation items in what is left.
        seed: Chooses the items.
        fold: As of `held_out`, as is ``num_folds``, of what is not tested.

    Raises:
        UserError: All groups that have a class are outside of the training part.
    """
    unit_of_item = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = shuffled(unit_of_item.max() + 1, seed, labels if groups is None else None)
    part_of_unit, is_test = np.full(len(order), "train"), held_out(len(order), test_fraction)
    part_of_unit[order[is_test]] = "test"
    rest = order[~is_test]
    part_of_unit[rest[held_out(len(rest), val_fraction, fold, num_folds)]] = "val"
    parts = part_of_unit[unit_of_item]
    for part, others in (("test", ("train", "val")), ("val", ("train",))):
        if labels is None:
            break
        is_rare = (parts == part) & ~np.isin(labels, labels[np.isin(parts, others)])
        if groups is not None and is_rare.any():
            lacking = f"no group of the training part has the class {min(labels[is_rare])}."
            raise UserError(f"{lacking} Try another --data.split_seed.")
        parts[is_rare] = "train"
    return {part: torch.from_numpy(np.flatnonzero(parts == part)) for part in ("train", "val", "test")}
