"""Statistics of classes: weights against imbalance, the metrics of predictions, and names turned into labels."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from ..errors import UserError
from .folders import print_note


def class_weights(labels: Tensor, num_classes: int = 0) -> Tensor:
    """Return a weight for each class, ``(num_classes,)`` float, so that the items of each class weigh the same in sum.

    The class of each item is in ``labels``, ``(N,)`` int64. The mean weight of the items is 1.
    """
    counts = labels.bincount(minlength=num_classes)
    return len(labels) / (counts.clamp(min=1) * (counts > 0).sum())


def class_metrics(predicted: Tensor, labels: Tensor, num_classes: int) -> dict[str, float]:
    """Return ``accuracy`` (micro average) and ``f1`` (macro average) of predicted classes, ``(N,)`` int64."""
    accuracy = (predicted == labels).double().mean().item()
    return {"accuracy": accuracy, "f1": multiclass_f1_score(predicted, labels, num_classes).item()}


def labels_from_names(names: Sequence[str], class_names: Sequence[str], source: object) -> Tensor:
    """Return the position in ``class_names``, ``(N,)`` int64, of each name of an item in the file ``source``."""
    positions = {name: position for position, name in enumerate(class_names)}
    unknown = sorted(set(names) - set(positions))
    if unknown:
        text = f"{source} has the class {unknown[0]}, but the model was trained with {', '.join(class_names[:12])}."
        raise UserError(f"{text} Remove its items, or train again.")
    return torch.tensor([positions[name] for name in names])


def note_similar_names(names: Iterable[str], source: object) -> None:
    """Report classes of a file whose names differ in case or notation alone, such as True and TRUE, or 1 and 1.0."""
    groups: dict[Any, list[str]] = {}
    for name in sorted(set(names)):
        is_number = re.fullmatch(r"[-+]?\d+(\.\d*)?", name)
        key = float(name) if is_number else re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", name).casefold())
        groups.setdefault(key, []).append(name)
    similar = [" and ".join(group) for group in groups.values() if len(group) > 1]
    if similar:
        print_note(f"{source} has {', '.join(similar[:5])} as different classes. Write each class in one way.")
