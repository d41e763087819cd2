"""The levels of pixels, normalised by mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Levels:
    """Mean and standard deviation of each channel, 0 to 1, by which levels from 0 to 255 are normalised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @cache  # noqa: B019 there is one for each data set; tensors are made once, not in every step
    def _tensors(self, device: torch.device) -> list[Tensor]:
        return [torch.tensor(values, device=device).mul_(255)[:, None, None] for values in (self.mean, self.std)]

    def normalize(self, levels: Tensor) -> Tensor:
        """Map levels ``(B, C, H, W)``, uint8, to float with about mean 0 and standard deviation 1."""
        mean, std = self._tensors(levels.device)
        return levels.float().sub_(mean).div_(std)

    def denormalize(self, levels: Tensor) -> Tensor:
        """Undo `normalize`, to look at a batch."""
        mean, std = self._tensors(levels.device)
        return levels.float().mul(std).add_(mean).round_().clamp_(0, 255).byte()


class Normalize(nn.Module):
    """Map levels ``(B, C, H, W)``, uint8, to float, as `Levels.normalize` does, in a module that is exported."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean).mul(255)[:, None, None])
        self.std = nn.Buffer(torch.tensor(std).mul(255)[:, None, None])

    def forward(self, levels: Tensor) -> Tensor:
        """Normalise levels."""
        return (levels.float() - self.mean) / self.std
