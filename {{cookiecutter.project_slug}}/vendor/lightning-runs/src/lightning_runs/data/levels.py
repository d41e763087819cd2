"""The levels of pixels, normalised by mean and standard deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
