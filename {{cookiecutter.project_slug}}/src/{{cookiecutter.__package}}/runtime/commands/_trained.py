"""A trained model as one module from pixels to probabilities, for `export` and `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from .. import runs
from ..data import DataModule
from ..errors import UserError
from ..module import ImageClassifier
from ..parser import quiet

RUNS = Path("runs")


class Classifier(nn.Module):
    """Map images ``(B, C, H, W)``, uint8, to the probabilities of all classes ``(B, num_classes)``, float32.

    Args:
        network: Maps normalised images to logits.
        mean: Mean of each channel, 0 to 1.
        std: Standard deviation of each channel, 0 to 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).mul(255).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images."""
        return self.network((images.float() - self.mean) / self.std).float().softmax(dim=1)


class Trained:
    """A run's best checkpoint, and the data that it was trained on.

    Args:
        run: The run.

    Attributes:
        checkpoint: The file.
        model: The LightningModule in float32, as it is evaluated.
        data: The DataModule; its files are read when it is set up.
        classifier: The same model from pixels to probabilities.
    """

    def __init__(self, run: runs.Run) -> None:
        self.run = run
        self.checkpoint = run.best_checkpoint()
        self.config: dict[str, Any] = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
        self.data = DataModule(**self.config["data"])
        with quiet():
            try:
                model = ImageClassifier.load_from_checkpoint(self.checkpoint, map_location="cpu", weights_only=True)
            except (RuntimeError, KeyError, AttributeError, ImportError) as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                raise UserError(
                    f"the checkpoint {self.checkpoint} does not fit the code as it is now: {' '.join(lines[:2])[:300]}"
                ) from error
        self.model = model.float().eval()
        self.classifier = Classifier(self.model.network, self.data.facts.mean, self.data.facts.std).eval()


def find(name: str | None) -> runs.Run:
    """Find a run.

    Args:
        name: Its name in ``runs/``, or its folder; None takes the newest that is finished.

    Raises:
        UserError: There is no such run.
    """
    if name and len(Path(name).parts) > 1:
        return runs.find(Path(name).parent, Path(name).name, finished=True)
    return runs.find(RUNS, name, finished=True)
