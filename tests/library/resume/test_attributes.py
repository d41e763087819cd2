"""Plain attributes of the module and of the user's callbacks are part of the exact resume."""

from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from toy import Toy
from written import assert_same


class Scales(Callback):
    """Changes the rate by an attribute of its own."""

    def __init__(self) -> None:
        self.factor = 1.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.factor *= 0.95
        trainer.optimizers[0].param_groups[0]["lr"] = 0.02 * self.factor


class Anneals(Toy):
    """Its loss depends on attributes that Lightning does not save."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.calls = 0
        self.seen: dict[str, Any] = {"losses": [], "mean": torch.zeros(1)}
        self._names = ("a", 1.5)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.calls += 1
        self.seen["losses"].append(loss.detach())
        self.seen["mean"] = torch.stack(self.seen["losses"]).mean()
        self.log("train/mean", self.seen["mean"])
        return loss * (1 + self.calls / 10) * (1 + self.seen["mean"] / 100)

    def configure_callbacks(self) -> list[Callback]:
        return [Scales()]


@pytest.mark.parametrize("stop", ["interrupt", "die"])
def test_attributes_go_on_after_a_stop(stop, run, request) -> None:
    assert run("fit", "--run", "whole", "--save_every_n_steps=2", module=Anneals) == 0
    request.getfixturevalue(stop)("a", "--save_every_n_steps=2", module=Anneals)
    assert run("fit", "--resume", "a", module=Anneals) == 0
    assert_same("a", "whole")
