"""Networks with pretrained weights, and the hooks of a LightningModule that trains one."""

from typing import Any

from torch import nn


class PretrainedNetwork(nn.Module):
    """A network that reads pretrained ``weights`` when a new training starts; None or False starts at random."""

    def __init__(self, weights: bool | str | None) -> None:
        super().__init__()
        self.weights = weights

    def load_weights(self) -> None:
        """Read the pretrained weights."""
        raise NotImplementedError


class FineTuningHooks:
    """Mixin of a LightningModule: fine-tune its ``network``, which may be a `PretrainedNetwork`."""

    network: Any
    trainer: Any

    @property
    def backbone(self) -> Any:
        """The pretrained part of the network, which Lightning's BackboneFinetuning reads."""
        return self.network.backbone

    def layer_groups(self) -> list[list[nn.Module]]:
        """Return the network's ``layer_groups``, or else each of its children as a group."""
        groups = getattr(self.network, "layer_groups", None)
        return groups() if groups else [[layer] for layer in self.network.children()]

    def on_fit_start(self) -> None:
        """Read pretrained weights; a resumed run has them in its checkpoint."""
        if self.trainer.ckpt_path is None and isinstance(self.network, PretrainedNetwork) and self.network.weights:
            self.network.load_weights()
