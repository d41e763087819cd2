"""Frozen layers do not change, and a resume is exact wherever it meets the unfreezing."""

import signal
from pathlib import Path
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

    stop_at: int | None = None  # a global step

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.hidden = nn.Linear(4, 4)
        self.layer = nn.Linear(4, 1)

    def layer_groups(self) -> list[list[nn.Module]]:
        return [[self.input], [self.hidden], [self.layer]]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop_at:
            signal.raise_signal(signal.SIGINT)
        return super().training_step([self.hidden(self.input(batch[0])), batch[1]], batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return finetuning.optimizer(lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9), self, 0.5)


def unfreezing(epochs: str) -> tuple[str, str]:
    return f"--trainer.callbacks+={finetuning.Unfreezing.__module__}.Unfreezing", f"--trainer.callbacks.epochs={epochs}"


@pytest.mark.parametrize("step", [4, 6, 7], ids=["before", "at", "after"])
def test_a_run_stopped_around_the_unfreezing_is_exact(step, run, monkeypatch) -> None:
    options = (*unfreezing("[0,1]"), "--trainer.max_epochs=2")  # of six steps
    assert run("fit", "--run=whole", *options, module=Layers) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Layers, "stop_at", step)
        assert run("fit", "--run=stopped", *options, module=Layers) == 130
    assert run("fit", "--resume", module=Layers) == 0
    assert_same("stopped", "whole")


def test_frozen_layers_do_not_change_until_their_epoch(run) -> None:
    for epochs in (1, 2, 3):
        options = (*unfreezing("[0,2]"), f"--trainer.max_epochs={epochs}")
        assert run("fit", f"--run={epochs}", *options, module=Layers) == 0
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


@pytest.mark.parametrize(
    ("epochs", "text"), [("[1,3]", "epochs [1, 3]"), ("[0,1,2,3]", "has 4 epochs, and Layers has 3")]
)
def test_impossible_epochs_are_refused(epochs, text, run, capsys) -> None:
    assert run("fit", "--run=a", *unfreezing(epochs), module=Layers) == 1
    assert text in capsys.readouterr().err


def test_layers_frozen_before_two_processes_start_are_refused(run, capsys) -> None:
    callback = "--trainer.callbacks+=pytorch_lightning.callbacks.BackboneFinetuning"
    assert run("fit", "--run=two", callback, "--trainer.devices=2", "--trainer.strategy=ddp", module=Layers) == 1
    message = capsys.readouterr().err
    assert "--trainer.devices 1" in message
    assert "Unfreezing" in message
    assert not Path("runs/two").exists()
