"""Networks: plain ``nn.Module`` classes that know nothing of Lightning.

A network takes ``input_shape`` ``(C, H, W)`` and ``num_classes``, both read off the data, and maps images
``(B, C, H, W)``, float, normalised, to logits ``(B, num_classes)``. Write yours here and name it in
``configs/default.yaml`` (``model.network.class_path``).
"""

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Convolutional network for images of any size from 4x4 pixels.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits.
        width: Channels after the first convolution; the later stages have two and four times as many.
        dropout: Fraction of features zeroed before the last layer, 0 to 1.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], num_classes: int, width: int = 32, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            self._stage(input_shape[0], width),  # (B, width, H, W)
            nn.MaxPool2d(2),
            self._stage(width, 2 * width),  # (B, 2 width, H/2, W/2)
            nn.MaxPool2d(2),
            self._stage(2 * width, 4 * width),  # (B, 4 width, H/4, W/4)
            nn.AdaptiveAvgPool2d(1),  # (B, 4 width, 1, 1): the size of the image no longer matters
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width, num_classes))

    @staticmethod
    def _stage(in_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, num_classes)``."""
        return self.classifier(self.features(images))


class DenseNet(nn.Sequential):
    """Fully connected network with one hidden layer, for images of the one size it was built for.

    Args:
        input_shape: Channels, height and width of an image.
        num_classes: Number of logits.
        hidden_size: Units in the hidden layer.
    """

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, hidden_size: int = 128) -> None:
        channels, height, width = input_shape
        super().__init__(
            nn.Flatten(),
            nn.Linear(channels * height * width, hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, num_classes),
        )
