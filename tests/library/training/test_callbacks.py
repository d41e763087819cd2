"""Checkpoint and early stopping with options of their own, and what is checked before and during a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from resume.test_exact import Plateau, StreamData
from toy import Toy, ToyData, assert_fails
from written import assert_same, last_checkpoint, record

STOPS = ("--early_stopping.monitor=val/loss", "--early_stopping.patience=1", "--early_stopping.min_delta=100")
GROUPS = ("--trainer.callbacks=[]", "--checkpoint.monitor=val/loss")  # instead of the configuration's list


def test_checkpoint_and_early_stopping_have_options(run) -> None:
    assert run("fit", "--run", "a", *GROUPS, *STOPS, "--checkpoint.save_top_k=2", "--trainer.max_epochs=5") == 0
    assert (record("a")["epochs"], record("a")["metric"]) == (2, "val/loss")
    kept = sorted(path.name for path in Path("runs/a/checkpoints").glob("epoch=*"))
    assert kept == ["epoch=000-step=6.ckpt", "epoch=001-step=12.ckpt"]


@pytest.mark.parametrize("text", ["early_stopping: null", "early_stopping:\n  monitor: null"])
def test_null_turns_early_stopping_off_for_good(text, run) -> None:
    Path("off.yaml").write_text(text)
    assert run("fit", "--run", "off", *GROUPS, *STOPS, "-c", "off.yaml") == 0
    assert run("fit", "--resume", "off", "--trainer.max_epochs=4") == 0
    assert record("off")["epochs"] == 4


def test_a_monitor_that_is_not_logged_is_refused() -> None:
    assert_fails("monitors val/los, which", "fit", "--run", "a", *GROUPS, "--checkpoint.monitor=val/los")
    assert record("a")["status"] == "failed"


def test_early_stopping_waits_for_the_first_validation(run) -> None:
    within_an_epoch = ("--trainer.max_steps=3", "--trainer.max_epochs=-1")
    with pytest.warns(UserWarning, match="no val/loss to compare.*--trainer.val_check_interval N"):
        assert run("fit", "--run", "a", *STOPS, *within_an_epoch, data=StreamData) == 0


def test_a_plateau_waits_for_rarer_validations(run) -> None:
    options = ("--trainer.max_epochs=6", "--trainer.check_val_every_n_epoch=2")
    assert run("fit", "--run", "a", *options, module=Plateau) == 0
    (state,) = last_checkpoint("a")["lr_schedulers"]
    assert (state["last_epoch"], state["_last_lr"]) == (3, [pytest.approx(0.02 * 0.5**2)])


class OneCycle(Toy):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def test_a_cycle_that_is_too_short_is_refused_at_the_start() -> None:
    assert_fails(["OneCycleLR ", "total_steps 9,", " 18 times"], "fit", "--run", "a", module=OneCycle)
    assert not Path("runs/a").exists()


class LogsLast(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.step(batch, "every")
        if self.trainer.is_last_batch:
            self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss


def test_the_line_of_an_unfinished_epoch_repeats_nothing(run, capsys) -> None:
    bar = ("--trainer.callbacks+=lightning_runs.training.progress.ProgressBar", "--trainer.enable_progress_bar=true")
    assert run("fit", *bar, "--trainer.max_epochs=-1", "--trainer.max_steps=15", module=LogsLast) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2"]
    assert ["train/loss" in line for line in lines] == [True, True, False]


class ReloadedData(ToyData):
    def train_dataloader(self) -> Any:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self.loader(48 + 8 * epoch, 0, shuffle=True)


def test_loaders_that_are_built_again_are_resumed(run, interrupt) -> None:
    option = "--trainer.reload_dataloaders_every_n_epochs=1"
    interrupt("a", option, data=ReloadedData)
    assert run("fit", "--resume", "a", data=ReloadedData) == 0
    assert run("fit", "--run", "whole", option, data=ReloadedData) == 0
    assert_same("a", "whole")
