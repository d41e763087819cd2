"""Fine-tuning: layers that wait before they train, and learning rates that fall towards the input."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim import Optimizer

from .. import contract
from ..errors import UserError


class Unfreezing(Callback):
    """Freeze the layers below the output, and let them train later; a frozen layer does not change in any way.

    Frozen layers are in evaluation mode: batch norm keeps its statistics, and dropout is off.

    Args:
        epochs: The epoch at which each of the model's `layer_groups` starts to train, from the output to the input.
            With ``[0, 3]`` the output layer trains from the start, and all others from epoch 3.
    """

    def __init__(self, epochs: list[int]) -> None:
        if epochs[:1] != [0] or sorted(epochs) != epochs:
            raise UserError(f"Unfreezing has epochs {epochs}; they must start with 0 and rise, such as [0, 3].")
        self.epochs = epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze layers, for a run that is resumed within an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = parameter_groups(pl_module)
        for i, group in enumerate(layer_groups(pl_module)):
            trains = self.epochs[min(i, len(self.epochs) - 1)] <= trainer.current_epoch
            for layer in group:
                layer.train(trains)
            for parameter in parameters[i]:
                parameter.requires_grad = trains


def layer_groups(module: pl.LightningModule) -> list[list[nn.Module]]:
    """Return the contract's ``layer_groups`` from the output to the input; without it, each child is a group."""
    own = contract.get("layer_groups", module)
    groups = [[child] for child in module.children()] if own is None else own()
    return groups[::-1]


def parameter_groups(module: pl.LightningModule) -> list[list[nn.Parameter]]:
    """Return the parameters of each group of `layer_groups`; parameters of no group join that of the input."""
    left = {id(parameter): parameter for parameter in module.parameters()}
    groups = [
        [left.pop(id(p)) for layer in group for p in layer.parameters() if id(p) in left]
        for group in layer_groups(module)
    ]
    groups[-1] += left.values()
    return groups


def optimizer(make: Callable[[Any], Optimizer], module: pl.LightningModule, rate_decay: float = 1.0) -> Optimizer:
    """Make an optimizer of the parameters that are not frozen.

    Args:
        make: Called with parameters, or with dicts of them; returns the optimizer.
        module: The model.
        rate_decay: Learning rate of a group of layers as a fraction of the next group's towards the output, up to 1.
    """
    if not 0 < rate_decay <= 1:
        raise UserError(f"the rate decay is {rate_decay}; it must be above 0 and at most 1, such as 0.7.")
    if rate_decay == 1:
        return make([parameter for parameter in module.parameters() if parameter.requires_grad])
    groups = [[p for p in group if p.requires_grad] for group in parameter_groups(module)]
    rated = [(rate_decay**i, group) for i, group in enumerate(groups) if group]
    made = make([{"params": group} for _, group in rated])
    for (factor, _), options in zip(rated, made.param_groups, strict=True):
        options["lr"] *= factor
    return made
