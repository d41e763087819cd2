"""Frozen layers do not change, and a resume is exact wherever it meets the unfreezing."""

from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.training import finetuning
from torch import nn
from toy import Toy
from written import assert_same, weights


class Layers(Toy):
    """Three groups of layers; the first has batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.hidden = nn.Linear(4, 4)
        self.layer = nn.Linear(4, 1)

    def layer_groups(self) -> list[list[nn.Module]]:
        return [[self.input], [self.hidden], [self.layer]]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step([self.hidden(self.input(batch[0])), batch[1]], batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return finetuning.optimizer(lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9), self, 0.5)


def unfreezing(epochs: str) -> tuple[str, str]:
    return f"--trainer.callbacks+={finetuning.Unfreezing.__module__}.Unfreezing", f"--trainer.callbacks.epochs={epochs}"


@pytest.mark.parametrize("step", [4, 6, 7], ids=["before", "at", "after"])
def test_a_run_stopped_around_the_unfreezing_is_exact(step, run, die) -> None:
    options = (*unfreezing("[0,1]"), "--trainer.max_epochs=2", "--save_every_n_steps=1")  # of six steps an epoch
    assert run("fit", "--run=whole", *options, module=Layers) == 0
    die("stopped", *options, at=("training_step", step + 1), module=Layers)
    assert run("fit", "--resume", module=Layers) == 0
    assert_same("stopped", "whole")


def test_frozen_layers_do_not_change_until_their_epoch(run) -> None:
    for epochs in (1, 2, 3):
        assert run("fit", f"--run={epochs}", *unfreezing("[0,2]"), f"--trainer.max_epochs={epochs}", module=Layers) == 0
    one, two, three = (weights(str(epochs)) for epochs in (1, 2, 3))
    assert {name for name in one if not one[name].equal(two[name])} == {"layer.weight", "layer.bias"}
    assert (two["input.1.num_batches_tracked"], three["input.1.num_batches_tracked"]) == (0, 6)
    assert not any(two[name].equal(three[name]) for name in ("input.0.weight", "hidden.weight", "layer.weight"))


def test_rates_fall_towards_the_input_unless_frozen() -> None:
    module = Layers()
    assert [group["lr"] for group in module.configure_optimizers().param_groups] == [0.01, 0.005, 0.0025]
    module.hidden.requires_grad_(False)
    assert [group["lr"] for group in module.configure_optimizers().param_groups] == [0.01, 0.0025]
    module.extra = nn.Parameter(torch.zeros(1))  # in no group
    assert any(parameter is module.extra for parameter in finetuning.parameter_groups(module)[-1])
    with pytest.raises(UserError, match=r"rate decay is 1\.5"):
        finetuning.optimizer(torch.optim.SGD, module, 1.5)
