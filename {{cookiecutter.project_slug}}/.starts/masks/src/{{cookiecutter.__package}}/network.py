"""Networks: plain ``nn.Module`` classes that know nothing of Lightning.

A network takes ``input_shape`` ``(C, H, W)`` and ``num_classes`` from the data, and maps normalised images
``(B, C, H, W)`` to logits ``(B, num_classes, H, W)``. Name yours in ``configs/default.yaml`` (``model.network``).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNet(nn.Module):
    """U-Net (https://arxiv.org/abs/1505.04597) for images of any size, with one convolution in each stage.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits of each pixel.
        width: Channels of the first stage; each stage below has twice as many.
        depth: How many times the size is halved, at least 1.
        dropout: Fraction of channels zeroed at the bottom, 0 to 1.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], num_classes: int, width: int = 16, depth: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(depth + 1)]
        inputs = [input_shape[0], *widths]
        self.down = nn.ModuleList(self._stage(inputs[i], widths[i]) for i in range(depth + 1))
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(self._stage(widths[i + 1] + widths[i], widths[i]) for i in reversed(range(depth)))
        self.classifier = nn.Conv2d(width, num_classes, kernel_size=1)
        self.multiple = 2**depth  # of which height and width must be

    @staticmethod
    def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, num_classes, H, W)``."""
        height, width = images.shape[2:]
        hidden = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))  # on the right and below
        kept = []
        for i, stage in enumerate(self.down):
            hidden = stage(F.max_pool2d(hidden, 2) if i else hidden)  # (B, width * 2**i, H / 2**i, W / 2**i)
            kept.append(hidden)
        hidden = self.dropout(kept.pop())
        for stage in self.up:
            larger = F.interpolate(hidden, scale_factor=2.0)
            hidden = stage(torch.cat([larger, kept.pop()], dim=1))
        return self.classifier(hidden)[:, :, :height, :width]
