"""The best checkpoint is the best one, whatever the schedule of validations, and its score is that of its weights."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from project import callback
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from toy import Toy, ToyData, assert_fails, command
from written import record, rows


class Wavers(Toy):
    """Its loss goes up and down, so that the best validation is not the last one."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * (3 if self.global_step % 7 == 0 else -0.02)

    def on_train_epoch_end(self) -> None:
        self.layer.weight.data *= 0.9  # after the validation


SCHEDULES = {
    "each epoch": "",
    "within an epoch": "--trainer.val_check_interval 0.3",
    "over epochs": "--trainer.val_check_interval 10 --trainer.check_val_every_n_epoch null",
    "each third epoch": "--trainer.check_val_every_n_epoch 3",
    "each second, three kept": "--trainer.check_val_every_n_epoch 2 --checkpoint.save_top_k 3",
    "all kept": "--trainer.check_val_every_n_epoch 3 --checkpoint.save_top_k=-1",
    "an epoch that is cut short": "--trainer.max_steps 22 --checkpoint.save_top_k 3",
    "at the end of an epoch": "--trainer.check_val_every_n_epoch 2 --checkpoint.save_on_train_epoch_end true",
    "accumulated": "--trainer.val_check_interval 2 --trainer.accumulate_grad_batches 2",
}
OPTIONS = ("--run", "a", "--trainer.max_epochs=6", "--trainer.callbacks=[]", "--checkpoint.monitor=val/loss")


def check_checkpoints(module: type = Wavers) -> None:
    """Each kept checkpoint validates at the score that it is kept for, and none validated better."""
    best = record("a")
    kept = torch.load("runs/a/checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (scores,) = [state["best_k_models"] for name, state in kept.items() if name.startswith("ModelCheckpoint")]
    assert best["best_checkpoint"] in scores
    assert scores[best["best_checkpoint"]].item() == pytest.approx(best["best_score"])
    for name, score in scores.items():
        shutil.copy(Path("runs/a/checkpoints", name), "copy.ckpt")
        assert command("validate", "--ckpt_path=copy.ckpt", module=module) == 0
        measured = record("..", "validate.json")
        assert measured["val/loss"] == pytest.approx(score.item(), abs=1e-6)
    validated = [float(row["val/loss"]) for row in rows("a") if row["val/loss"]]
    assert best["best_score"] == pytest.approx(min(validated))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_best_score_is_what_the_best_checkpoint_validates_at(schedule, run) -> None:
    assert run("fit", *OPTIONS, *shlex.split(SCHEDULES[schedule]), module=Wavers) == 0
    check_checkpoints()


@pytest.mark.parametrize("schedule", ["within an epoch", "each second, three kept"])
@pytest.mark.parametrize("last", [5, 16])
def test_the_best_score_is_true_after_a_kill(schedule, last, run, die) -> None:
    options = [*OPTIONS[2:], *shlex.split(SCHEDULES[schedule]), "--save_every_n_steps=3"]
    die("a", *options, at=("training_step", last), module=Wavers)
    assert run("fit", *OPTIONS, "--resume", *options, module=Wavers) == 0
    check_checkpoints()


EPOCH_END = "save_on_train_epoch_end=true --trainer.val_check_interval=0.5"


@pytest.mark.parametrize("option", ["every_n_train_steps=3", "train_time_interval=00:00:00:01", EPOCH_END])
def test_checkpoints_between_validations_are_refused(option) -> None:
    assert_fails(f"checkpoint.{option.partition('=')[0]}", "fit", *OPTIONS, *f"--checkpoint.{option}".split())
    assert not Path("runs/a").exists()


class TwoLoaders(ToyData):
    def val_dataloader(self) -> Any:
        return [self.loader(16, 1), self.loader(16, 3)]


class Two(Toy):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.step(batch, "val")


class LogsLate(Toy):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/other", 1.0)
        if not self.trainer.sanity_checking:
            self.step(batch, "val")


@pytest.mark.parametrize(
    ("module", "data", "metric"),
    [(Two, TwoLoaders, "val/loss/dataloader_idx_1"), (LogsLate, ToyData, "val/loss")],
)
def test_a_metric_that_is_logged_after_the_sanity_check_counts(module, data, metric, run) -> None:
    options = (f"--checkpoint.monitor={metric}", f"--early_stopping.monitor={metric}")
    assert run("fit", *OPTIONS[:4], *options, module=module, data=data) == 0
    assert record("a")["best_score"] > 0


class OwnCheckpoint(Toy):
    def configure_callbacks(self) -> list[Any]:
        return [ModelCheckpoint(monitor="val/loss", mode="max", filename="own", save_last=True), LearningRateMonitor()]


def test_a_checkpoint_of_the_module_replaces_that_of_the_options(run, capsys) -> None:
    assert run("fit", *OPTIONS, module=OwnCheckpoint) == 0
    assert "configure_callbacks replaced ModelCheckpoint" in capsys.readouterr().out
    assert (record("a")["best_checkpoint"], record("a")["mode"]) == ("own.ckpt", "max")
    assert {file.name for file in Path("runs/a/checkpoints").iterdir()} == {"own.ckpt", "last.ckpt", "previous.ckpt"}


def test_a_smoke_test_has_a_logger_for_the_modules_callbacks(run) -> None:
    assert run("fit", "--trainer.fast_dev_run=true", module=OwnCheckpoint) == 0
    assert list(Path().rglob("*.*")) == [Path("configs/default.yaml")]


EMA = callback("EMAWeightAveraging", "decay=0.9")
ONLY_WEIGHTS = (*OPTIONS[3:], "--checkpoint.save_weights_only=true", *EMA)
SWA = callback("StochasticWeightAveraging", "swa_lrs=0.001", "swa_epoch_start=1")


@pytest.mark.parametrize("options", [EMA, ONLY_WEIGHTS, SWA], ids=["EMA", "only weights", "SWA"])
def test_the_averaged_weights_are_kept_tested_and_used(options, run) -> None:
    assert run("fit", "--run", "a", *options) == 0
    kept = torch.load(Path("runs/a/checkpoints", record("a")["best_checkpoint"]), weights_only=True)
    weights = kept["state_dict"]
    if options != SWA:  # the latest weights beside their average
        assert not weights["layer.weight"].equal(kept["current_model_state"]["layer.weight"])
    else:
        average = kept["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
        assert weights["layer.weight"].equal(average["layer.weight"])
    tested = record("a", "test.json")
    assert run("test", "--run", "a") == 0
    assert record("a", "test.json") == tested
    assert run("predict", "--run", "a") == 0
    numbers = ToyData().dataset(16, 2)[:][0]
    expected = numbers @ weights["layer.weight"][0] + weights["layer.bias"]
    predicted = [float(row["prediction"]) for row in rows("a", "predictions.csv")]
    assert predicted == pytest.approx(expected.tolist(), abs=1e-5)


def test_an_average_that_came_to_no_end_is_not_taken(run) -> None:
    assert run("fit", "--run", "a", *SWA, "--trainer.max_steps", "10") == 0
    assert record("a")["best_checkpoint"] != "last.ckpt"
    late = callback("EMAWeightAveraging", "update_starting_at_step=1000")
    assert [run("fit", "--run", "plain"), run("fit", "--run", "averaged", *late)] == [0, 0]
    assert record("averaged", "test.json") == record("plain", "test.json")


class Means(Toy):
    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = self.step(batch, "each")
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss


def test_the_loss_of_an_epoch_s_line_is_that_of_all_batches(run, capsys) -> None:
    bar = "--trainer.callbacks+=lightning_runs.training.progress.ProgressBar"
    assert run("fit", "--run=a", bar, "--trainer.enable_progress_bar=true", module=Means) == 0
    printed = re.findall(r"^epoch .*train/loss (\S+)", capsys.readouterr().out, re.MULTILINE)
    losses = [float(row["each/loss"]) for row in rows("a") if row["each/loss"]]
    means = [sum(losses[epoch * 6 : epoch * 6 + 6]) / 6 for epoch in range(3)]
    assert [float(loss) for loss in printed] == pytest.approx(means, abs=1e-3)
