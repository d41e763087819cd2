"""Averaged weights, and other numbers that have to be true of the weights that are kept."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from project import callback, read_rows
from torch.utils.data import DataLoader
from toy import Toy, ToyData
from written import record, rows

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


@pytest.mark.parametrize("averaged", [EMA], ids=["EMA"], indirect=True)  # SWA's average is made after the last epoch
def test_validate_measures_the_averaged_weights(averaged, run) -> None:
    assert run("validate", "--run", "a") == 0
    assert str(record("a", "validate.json")["val/loss"]) in {row["val/loss"] for row in rows("a")}


def test_predict_uses_the_averaged_weights(averaged, run) -> None:
    assert run("predict", "--run", "a") == 0
    weights = averaged["state_dict"]
    numbers = ToyData().dataset(16, 2)[:][0]
    expected = numbers @ weights["layer.weight"][0] + weights["layer.bias"]
    predicted = [float(row["prediction"]) for row in read_rows(Path("runs/a/predictions.csv"))]
    assert predicted == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_report_has_what_the_averaged_weights_reach(averaged) -> None:
    page = Path("runs/a/report.html").read_text(encoding="utf-8")
    assert f"{averaged['tested']['test/loss']:.4g}" in page
    assert "have changed since" not in page


def test_an_average_that_came_to_no_end_is_not_taken(run) -> None:
    assert run("fit", "--run", "a", *SWA, "--trainer.max_steps", "10") == 0
    assert record("a")["best_checkpoint"] != "last.ckpt"


def test_the_command_that_began_a_run_resumes_it_with_its_file(run) -> None:
    Path("ema.yaml").write_text(f"trainer:\n  callbacks+:\n    - class_path: {EMA[0].rpartition('=')[2]}\n")
    command = ("fit", "-c", "ema.yaml", "--run", "a", "--resume")
    assert [run(*command), run(*command)] == [0, 0]
    assert run("test", "-c", "ema.yaml", "--run", "a") == 0


class NotANumber(Toy):
    def on_validation_epoch_end(self) -> None:
        self.log("val/recall", float("nan"))


def test_a_metric_that_is_no_number_leaves_test_and_report(run) -> None:
    assert run("fit", "--run", "a", module=NotANumber) == 0
    assert record("a")["status"] == "finished"
    assert {"test.json", "report.html"} <= {file.name for file in Path("runs/a").iterdir()}


class Incomplete(ToyData):
    """Each batch lacks the items that can't be read."""

    def train_dataloader(self) -> DataLoader:
        def collate(items: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
            return [torch.stack(part) for part in zip(*items[:5], strict=True)]

        return DataLoader(self.dataset(48, 0), batch_size=8, collate_fn=collate)


def test_the_items_that_were_trained_on_are_counted(run) -> None:
    assert run("fit", "--run", "a", data=Incomplete) == 0
    assert record("a")["train_items"] == 3 * 6 * 5


class Means(Toy):
    losses: list[float]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        type(self).losses.append(loss.item())
        return loss


def test_the_loss_of_an_epoch_s_line_is_that_of_all_batches(run, capsys) -> None:
    Means.losses = []
    bar = "--trainer.callbacks+=lightning_runs.training.progress.ProgressBar"
    options = ("--trainer.enable_progress_bar", "true", "--trainer.log_every_n_steps", "4")
    assert run("fit", bar, *options, module=Means) == 0
    printed = re.findall(r"^epoch .*train/loss (\S+)", capsys.readouterr().out, re.MULTILINE)
    means = [sum(Means.losses[epoch * 6 : epoch * 6 + 6]) / 6 for epoch in range(3)]
    assert [float(loss) for loss in printed] == pytest.approx(means, abs=1e-3)


class BatchSizes(Toy):
    sizes: list[int]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        type(self).sizes.append(len(batch[1]))
        return super().training_step(batch, batch_idx)


def test_config_yaml_holds_the_batch_size_that_was_found(run) -> None:
    BatchSizes.sizes = []
    found = callback("BatchSizeFinder", "max_trials=2", "init_val=2")
    assert run("fit", "--run", "a", *found, module=BatchSizes) == 0
    assert BatchSizes.sizes[-1] != 8
    assert f"  batch_size: {BatchSizes.sizes[-1]}\n" in Path("runs/a/config.yaml").read_text(encoding="utf-8")
