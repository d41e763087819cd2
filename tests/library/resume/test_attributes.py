"""Plain attributes of the module and of the user's callbacks are part of the exact resume."""

from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from toy import Toy
from written import assert_same, record


class Thresholds(Toy):
    """Its validation changes an attribute that each loss depends on, and the first epoch is the best."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.threshold = 0.5

    def step(self, batch: list[torch.Tensor], split: str) -> torch.Tensor:
        loss = super().step(batch, "raw" + split) * 0 + self.threshold
        self.log(f"{split}/loss", loss)
        return loss + self.layer(batch[0]).mean() * 0

    def on_train_epoch_start(self) -> None:
        self.threshold += 1


def test_a_test_has_the_attributes_of_its_checkpoint(run) -> None:
    assert run("fit", "--run", "a", module=Thresholds) == 0
    measured = record("a", "test.json")
    assert measured["test/loss"] == record("a")["best_score"] == 1.5
    for command in ("test", "validate"):
        assert run(command, "--run", "a", module=Thresholds) == 0
        assert record("a", f"{command}.json")[f"{command[:4].replace('vali', 'val')}/loss"] == 1.5


class Scales(Callback):
    """Changes the rate by an attribute of its own."""

    def __init__(self) -> None:
        self.factor = 1.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.factor *= 0.95
        trainer.optimizers[0].param_groups[0]["lr"] = 0.02 * self.factor


class Counts(nn.Linear):
    """A module of the user's within the LightningModule."""

    def __init__(self) -> None:
        super().__init__(4, 1)
        self.count = 0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.count += self.training
        return super().forward(input) * (1 + self.count / 100)


class Anneals(Toy):
    """Its loss depends on attributes that Lightning does not save."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.calls = 0
        self.seen: dict[str, Any] = {"losses": [], "mean": torch.zeros(1)}
        self._names = ("a", 1.5)
        self.layer = Counts()
        self.single = np.float32(0)
        self.array = np.zeros(3)
        self.steps = {0}
        self.last = deque([0.0], maxlen=3)
        self.kinds = Counter("a")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.calls += 1
        self.ramp *= 0.99
        self.single += np.float32(0.5)
        self.array = self.array + 0.1
        self.steps.add(self.calls)
        self.last.append(float(loss))
        self.kinds["a"] += 1
        others = float(self.single + self.array.sum()) + len(self.steps) + sum(self.last) + self.kinds["a"] + self.ramp
        loss = loss * (1 + others / 1000)
        self.seen["losses"].append(loss.detach())
        self.seen["mean"] = torch.stack(self.seen["losses"]).mean()
        self.log("train/mean", self.seen["mean"])
        return loss * (1 + self.calls / 10) * (1 + self.seen["mean"] / 100)

    def on_train_start(self) -> None:
        self.ramp = 1.0

    def configure_callbacks(self) -> list[Callback]:
        return [Scales()]


@pytest.mark.parametrize("stop", ["interrupt", "die"])
def test_attributes_go_on_after_a_stop(stop, run, request) -> None:
    assert run("fit", "--run", "whole", "--save_every_n_steps=2", module=Anneals) == 0
    request.getfixturevalue(stop)("a", "--save_every_n_steps=2", module=Anneals)
    assert run("fit", "--resume", "a", module=Anneals) == 0
    assert_same("a", "whole")
