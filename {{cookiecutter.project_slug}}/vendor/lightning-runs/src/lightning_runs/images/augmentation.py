"""Random changes of a batch of images, on its device. All of them follow torch's seed, which each step sets."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_GROUPS = 8  # of images of a batch, for each of which RandAugment draws its operations


def move_and_mirror(images: Tensor, mirror: bool) -> Tensor:
    """Move each image by up to an eighth of its height in both directions, and mirror half of them.

    Args:
        images: ``(B, C, H, W)`` uint8. Pixels that come in from outside are 0.
        mirror: Whether images are mirrored.
    """
    num_images, channels, height, width = images.shape
    device = images.device
    shift = height // 8  # pixels
    offsets = torch.randint(0, 2 * shift + 1, (2, num_images, 1), device=device)  # down and to the right
    is_mirrored = torch.rand(num_images, 1, device=device) < (0.5 if mirror else 0.0)
    rows = torch.arange(height, device=device) + offsets[0]  # (B, H), of the padded images
    columns = torch.arange(width, device=device).expand(num_images, -1)
    columns = torch.where(is_mirrored, columns.flip(1), columns) + offsets[1]  # (B, W)
    padded = F.pad(images, (shift, shift, shift, shift))
    moved = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def rand_augment(images: Tensor) -> Tensor:
    """Apply two operations of RandAugment (https://arxiv.org/abs/1909.13719) to images ``(B, C, H, W)`` uint8."""
    # RandAugment draws once for all images that it is given, and image by image it takes ten times as long
    return torch.cat([_transform("rand_augment")(group) for group in images.chunk(NUM_GROUPS)])


def mix_images(images: Tensor, labels: Tensor, method: str, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix each image ``(B, C, H, W)`` float, and its label ``(B,)`` int64, with another one of the batch.

    ``mixup`` blends two images (https://arxiv.org/abs/1710.09412), ``cutmix`` pastes a rectangle of the other one
    (https://arxiv.org/abs/1905.04899). The labels become fractions of the classes, ``(B, num_classes)`` float.
    """
    return _transform(method, num_classes)(images, labels)


@cache
def _transform(name: str, num_classes: int | None = None) -> Any:
    from torchvision.transforms import v2

    if name == "rand_augment":
        return v2.RandAugment(num_ops=2, magnitude=9)
    return {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name](num_classes=num_classes)
