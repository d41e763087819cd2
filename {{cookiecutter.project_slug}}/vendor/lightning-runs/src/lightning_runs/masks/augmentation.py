"""Random changes of images and their masks alike, on their device. They follow torch's seed, which each step sets."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .metrics import IGNORED

CHANGES = ("down", "across", "turn", "zoom", "brightness", "contrast", "side")
LARGEST_ANGLE = torch.pi / 12  # 15 degrees
LARGEST_ZOOM = 1.25


def augment_alike(images: Tensor, masks: Tensor, mirror: bool, strong: bool) -> tuple[Tensor, Tensor]:
    """Move each image by up to an eighth of its size, and its mask alike.

    Args:
        images: ``(B, C, H, W)`` uint8.
        masks: ``(B, H, W)`` uint8. Pixels that come in from outside are `IGNORED`.
        mirror: Mirror half of the images.
        strong: Also turn them by up to 15 degrees, show them between 0.8 and 1.25 times as large, and change their
            brightness and contrast.
    """
    num_images = len(images)
    height = images.shape[2]
    width = images.shape[3]
    # a number between -1 and 1 for each image and change
    draws = dict(zip(CHANGES, torch.rand(len(CHANGES), num_images, device=images.device) * 2 - 1, strict=True))
    angle = strong * draws["turn"] * LARGEST_ANGLE
    scale = LARGEST_ZOOM ** (strong * draws["zoom"])
    sign = torch.where(draws["side"] < 0, -1.0, 1.0) if mirror else torch.ones_like(draws["side"])
    # whole pixels, as a fraction of half the size: a light change moves pixels, and mixes none
    right = (draws["across"] * width / 8).round() * 2 / width
    below = (draws["down"] * height / 8).round() * 2 / height
    aspect = height / width
    x_row = torch.stack([sign * scale * angle.cos(), -scale * angle.sin() * aspect, right], dim=1)
    y_row = torch.stack([sign * scale * angle.sin() / aspect, scale * angle.cos(), below], dim=1)
    theta = torch.stack([x_row, y_row], dim=1)  # (B, 2, 3): from places in the result to places in the image
    grid = F.affine_grid(theta, [num_images, 1, height, width], align_corners=False)
    levels = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    if strong:
        mean = levels.mean(dim=(1, 2, 3), keepdim=True)
        contrasted = (levels - mean) * 1.25 ** draws["contrast"][:, None, None, None] + mean
        levels = contrasted + 20 * draws["brightness"][:, None, None, None]
    classes = masks[:, None].float() - IGNORED  # so that the zeros from outside stand for ignored pixels
    classes = F.grid_sample(classes, grid, mode="nearest", align_corners=False) + IGNORED
    return levels.round().clamp(0, 255).byte(), classes[:, 0].round().byte()
