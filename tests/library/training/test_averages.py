"""Averaged weights, and other numbers that have to be true of the weights that are kept."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from project import callback, read_rows
from toy import Toy, ToyData
from written import record

EMA = callback("EMAWeightAveraging", "decay=0.9")
SWA = callback("StochasticWeightAveraging", "swa_lrs=0.001", "swa_epoch_start=1")


@pytest.fixture(params=[EMA, SWA], ids=["EMA", "SWA"])
def averaged(request, run) -> dict[str, Any]:
    """The best checkpoint of a run with averaged weights, with what fit has measured."""
    assert run("fit", "--run", "a", *request.param) == 0
    file = Path("runs/a/checkpoints") / record("a")["best_checkpoint"]
    return torch.load(file, weights_only=True) | {"tested": record("a", "test.json")}


def test_the_weights_that_are_kept_are_the_averaged_ones(averaged) -> None:
    weights = averaged["state_dict"]["layer.weight"]
    if "current_model_state" in averaged:  # of EMA, the latest weights beside their average
        assert not weights.equal(averaged["current_model_state"]["layer.weight"])
    else:
        average = averaged["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
        assert weights.equal(average["layer.weight"])


def test_test_measures_the_averaged_weights(averaged, run) -> None:
    assert run("test", "--run", "a") == 0
    assert record("a", "test.json") == averaged["tested"]


def test_predict_uses_the_averaged_weights(averaged, run) -> None:
    assert run("predict", "--run", "a") == 0
    weights = averaged["state_dict"]
    numbers = ToyData().dataset(16, 2)[:][0]
    expected = numbers @ weights["layer.weight"][0] + weights["layer.bias"]
    predicted = [float(row["prediction"]) for row in read_rows(Path("runs/a/predictions.csv"))]
    assert predicted == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_average_that_came_to_no_end_is_not_taken(run) -> None:
    assert run("fit", "--run", "a", *SWA, "--trainer.max_steps", "10") == 0
    assert record("a")["best_checkpoint"] != "last.ckpt"


class Means(Toy):
    losses: list[float] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        Means.losses.append(loss.item())
        return loss


def test_the_loss_of_an_epoch_s_line_is_that_of_all_batches(run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Means, "losses", [])
    bar = "--trainer.callbacks+=lightning_runs.training.progress.ProgressBar"
    assert run("fit", bar, "--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=4", module=Means) == 0
    printed = re.findall(r"^epoch .*train/loss (\S+)", capsys.readouterr().out, re.MULTILINE)
    means = [sum(Means.losses[epoch * 6 : epoch * 6 + 6]) / 6 for epoch in range(3)]
    assert [float(loss) for loss in printed] == pytest.approx(means, abs=1e-3)
