from typing import Any

import pytest
import torch
from toy import Toy, assert_fails


def suggested(output: str) -> float:
    (line,) = [line for line in output.splitlines() if line.startswith("Suggested learning rate: ")]
    return float(line.split()[3])


def test_a_rate_is_suggested_with_the_command_that_uses_it(run, capsys) -> None:
    assert run("lr_find", "--data.batch_size=16") == 0
    output = capsys.readouterr().out
    rate = suggested(output)
    assert 0.001 < rate < 1
    assert f"python -m toy_project fit --data.batch_size=16 --model.lr={rate:.2g}\n" in output
    assert run("lr_find", "--data.batch_size=16", "--model.lr=2") == 0
    assert suggested(capsys.readouterr().out) == rate  # whatever is configured


class Groups(Toy):
    seen: list[tuple[float, float]] = []

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.layer.weight]}, {"params": [self.layer.bias], "lr": self.lr / 10}]
        optimizer = torch.optim.SGD(groups, self.lr)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 1000)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        first, second = optimizer.param_groups
        self.seen.append((first["lr"], second["lr"]))


def test_rates_grow_by_steps_without_a_schedule(run) -> None:
    Groups.seen.clear()
    assert run("lr_find", "--trainer.accumulate_grad_batches=2", module=Groups) == 0
    first, second = zip(*Groups.seen, strict=True)
    assert len(first) > 20
    assert first == pytest.approx([1e-7 * 1e8 ** (step / 159) for step in range(len(first))])
    assert second == first


def test_where_no_rate_learns_it_is_told_what_to_try(monkeypatch) -> None:
    monkeypatch.setattr(Toy, "training_step", lambda self, batch, i: self.layer(batch[0]).mean() * 0 + torch.rand(()))
    assert_fails(["1e-07", "10", "configs/overfit.yaml"], "lr_find")
