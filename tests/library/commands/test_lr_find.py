import re
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from toy import Toy, ToyData


def suggested(output: str) -> float:
    (line,) = [line for line in output.splitlines() if line.startswith("Suggested learning rate: ")]
    return float(line.split()[3])


def test_a_rate_is_suggested_with_the_command_that_uses_it(run, capsys) -> None:
    assert run("lr_find", "--data.batch_size=16") == 0
    output = capsys.readouterr().out
    rate = suggested(output)
    assert 0.001 < rate < 1
    assert f"python -m toy_project fit --data.batch_size=16 --model.lr={rate:.2g}\n" in output
    losses = [float(line.split()[1]) for line in output.splitlines() if re.match(r"\S+e[-+]\d+ ", line)]
    assert losses[0] > 2 * min(losses)
    assert not Path("runs").exists()
    assert run("fit", "--data.batch_size=16", f"--model.lr={rate}") == 0


def test_what_is_configured_does_not_change_the_suggestion(run, capsys) -> None:
    found = []
    for rate in (0.02, 2, 0.0002):
        assert run("lr_find", f"--model.lr={rate}") == 0
        found.append(suggested(capsys.readouterr().out))
    assert len(set(found)) == 1


class Groups(Toy):
    seen: ClassVar[list[tuple[float, float]]] = []

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.layer.weight]}, {"params": [self.layer.bias], "lr": self.lr / 10}]
        optimizer = torch.optim.SGD(groups, self.lr)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 1000)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        first, second = optimizer.param_groups
        self.seen.append((first["lr"], second["lr"]))


def test_groups_of_parameters_keep_their_ratio(run) -> None:
    Groups.seen.clear()
    assert run("lr_find", module=Groups) == 0
    first, second = zip(*Groups.seen, strict=True)
    assert first[0] == 1e-7
    assert [b / a for a, b in pairwise(first)] == pytest.approx([1e8 ** (1 / 159)] * (len(first) - 1))
    assert second == pytest.approx([rate / 10 for rate in first])


def test_batches_that_are_accumulated_share_a_rate(run) -> None:
    Groups.seen.clear()
    assert run("lr_find", "--trainer.accumulate_grad_batches=2", module=Groups) == 0
    rates = [first for first, _ in Groups.seen]
    assert len(set(rates)) == len(rates) > 20


class TwoOptimizers(Toy):
    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], self.lr) for parameter in self.parameters()]


class SetsItsRate(Toy):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 0.1


class LearnsNothing(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).mean() * 0 + torch.rand(())


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (TwoOptimizers, ["TwoOptimizers", "sweep"]),
        (SetsItsRate, ["SetsItsRate"]),
        (LearnsNothing, ["1e-07", "10", "configs/overfit.yaml"]),
    ],
)
def test_a_module_without_a_rate_to_find_is_named(module, named, run, capsys) -> None:
    assert run("lr_find", module=module) == 1
    error = capsys.readouterr().err
    assert [word for word in named if word not in error] == []
    assert not Path("runs").exists()


class HiddenRate(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self.layer(batch[0])[:, 0] - batch[1]).square().mean()

    def train_dataloader(self) -> DataLoader:
        return ToyData().train_dataloader()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


def test_a_module_whose_rate_is_no_option_gets_a_suggestion_too(run, capsys) -> None:
    assert run("lr_find", module=HiddenRate, data=None) == 0
    output = capsys.readouterr().out
    assert 0.001 < suggested(output) < 1
    assert "HiddenRate.configure_optimizers" in output
