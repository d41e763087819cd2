"""Metrics of predicted masks, from counts of pixels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255  # stands in masks for a pixel without a class


def count_pixels(masks: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count the pixels of each image, true class by predicted class, ``(B, num_classes, num_classes)`` int64.

    Both ``masks`` and ``predicted`` are ``(B, H, W)``.
    """
    counts = []
    for mask, prediction in zip(masks.flatten(1).long(), predicted.flatten(1).long(), strict=True):
        has_class = mask != IGNORED
        pairs = mask[has_class] * num_classes + prediction[has_class]
        counts.append(pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes))
    return torch.stack(counts)


def class_iou(counts: Tensor) -> Tensor:
    """Return the IoU of each class from counts ``(..., C, C)`` of pixels, true by predicted; NaN if it is absent."""
    both = counts.diagonal(dim1=-2, dim2=-1).float()
    return both / (counts.sum(dim=-1) + counts.sum(dim=-2) - both)


def mask_metrics(counts: Tensor) -> dict[str, Tensor]:
    """Return ``mean_iou``, ``f1`` and ``accuracy`` from counts ``(..., C, C)`` of pixels, true by predicted."""
    iou = class_iou(counts)
    accuracy = counts.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / counts.sum(dim=(-2, -1))
    return {"mean_iou": iou.nanmean(dim=-1), "f1": (2 * iou / (1 + iou)).nanmean(dim=-1), "accuracy": accuracy}


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the Dice loss (https://arxiv.org/abs/1606.04797), the mean over the classes.

    Args:
        logits: ``(B, num_classes, H, W)`` float.
        masks: The class of each pixel, or `IGNORED`, ``(B, H, W)`` int64.
    """
    num_classes = logits.shape[1]
    has_class = masks != IGNORED
    true = F.one_hot(masks.where(has_class, num_classes), num_classes + 1)[..., :-1]
    true = true.movedim(3, 1).float()  # (B, num_classes, H, W), zero where a pixel has no class
    predicted = logits.softmax(dim=1) * has_class[:, None]
    both = (true * predicted).sum(dim=(0, 2, 3))  # (num_classes,)
    either = (true + predicted).sum(dim=(0, 2, 3))
    return (1 - (2 * both + 1) / (either + 1)).mean()


def most_frequent_class(data: Any) -> dict[str, dict[str, float]]:
    """Return the test metrics of a model that gives every pixel the most frequent class of the training pixels."""
    data.setup("fit")
    masks = data.splits["test"][0].labels[data.splits["test"][1]]
    predicted = torch.full_like(masks, int(data.class_counts("train").argmax()))
    metrics = mask_metrics(count_pixels(masks, predicted, data.num_classes).sum(dim=0))
    return {"most frequent class": {f"test/{name}": value.item() for name, value in metrics.items()}}
