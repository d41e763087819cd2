"""The levels of pixels, normalised by mean and standard deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from .folders import print_note


class Levels(nn.Module):
    """Map levels from 0 to 255, ``(B, C, H, W)`` uint8, to float with about mean 0 and standard deviation 1.

    Args:
        mean: Mean of each channel, 0 to 1.
        std: Standard deviation of each channel, 0 to 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean).mul(255)[:, None, None])
        self.std = nn.Buffer(torch.tensor(std).mul(255)[:, None, None])

    def forward(self, levels: Tensor) -> Tensor:
        """Normalise levels."""
        if self.mean.device != levels.device:  # once: a data module's attributes are not moved by Lightning
            self.to(levels.device)
        return levels.float().sub_(self.mean).div_(self.std)

    def denormalize(self, images: Tensor) -> Tensor:
        """Return the levels of normalised images, to look at a batch."""
        return images.float().mul(self.std).add_(self.mean).round_().clamp_(0, 255).byte()


def check_levels(images: Tensor, source: object) -> None:
    """Report images ``(N, C, H, W)`` uint8 with one value; refuse them, the file ``source`` first, if all are so."""
    pixels = images.flatten(1)
    count = int((pixels.amin(dim=1) == pixels.amax(dim=1)).sum())
    if count == len(images):
        raise UserError(
            f"{source} and all of {count} training images that were read have a single value each, so nothing can be"
            " learned. Save them without transparency, with 8 bits per channel."
        )
    if count:
        print_note(f"{count} of {len(images)} training images that were read have a single value each.")
