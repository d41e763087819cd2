"""Checkpoint and early stopping with options of their own, and what is checked before and during a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning_runs.training.callbacks import Pictures
from resume.test_exact import StreamData
from toy import Toy, ToyData
from written import assert_same, last_checkpoint, record

DEFAULT = Path("configs/default.yaml")
STOPS = ("--early_stopping.monitor=val/loss", "--early_stopping.patience=1", "--early_stopping.min_delta=100")
PICTURES = f"--trainer.callbacks+={Pictures.__module__}.Pictures"


def configure(**groups: object) -> None:
    """Replace the configuration's list of callbacks by groups of options."""
    options = yaml.safe_load(DEFAULT.read_text())
    del options["trainer"]["callbacks"]
    DEFAULT.write_text(yaml.safe_dump(options | groups))


def checkpoints(name: str) -> list[str]:
    return sorted(path.name for path in Path(f"runs/{name}/checkpoints").glob("epoch=*"))


def test_checkpoint_and_early_stopping_have_options(run, capsys) -> None:
    configure(checkpoint={"monitor": "val/loss"})
    assert run("fit", "--run", "a", *STOPS, "--checkpoint.save_top_k=2", "--trainer.max_epochs=5") == 0
    assert (record("a")["epochs"], record("a")["metric"]) == (2, "val/loss")
    assert checkpoints("a") == ["epoch=000-step=6.ckpt", "epoch=001-step=12.ckpt"]


@pytest.mark.parametrize("text", ["early_stopping: null", "early_stopping:\n  monitor: null", "{}"])
def test_null_turns_early_stopping_off_for_good(text, run) -> None:
    configure(checkpoint={"monitor": "val/loss"}, early_stopping={"monitor": "val/loss", "min_delta": 100.0})
    Path("on.yaml").write_text("early_stopping:\n  patience: 1\n")
    Path("off.yaml").write_text(text)
    assert run("fit", "--run", "on", "-c", "on.yaml") == 0
    option = ["--early_stopping", "null"] if text == "{}" else []
    assert run("fit", "--run", "off", "-c", "on.yaml", "-c", "off.yaml", *option) == 0
    assert (record("on")["epochs"], record("off")["epochs"]) == (2, 3)
    assert run("fit", "--resume", "off", "--trainer.max_epochs=4") == 0
    assert record("off")["epochs"] == 4


def test_early_stopping_is_not_added_to_a_resumed_run(run, have, capsys) -> None:
    have("interrupted", "a")
    assert run("fit", "--resume", "a", "--early_stopping.monitor=val/loss") == 1
    assert "early_stopping.monitor is val/loss and was None" in capsys.readouterr().err


def test_a_list_in_a_second_file_leaves_checkpoints_alone(run) -> None:
    configure(checkpoint={"monitor": "val/loss", "save_top_k": -1})
    Path("list.yaml").write_text("trainer:\n  callbacks: []\n")
    assert run("fit", "--run", "a", "-c", "list.yaml") == 0
    assert len(checkpoints("a")) == 3
    assert record("a")["metric"] == "val/loss"


def test_a_checkpoint_of_the_list_replaces_the_one_with_options(have) -> None:
    have("finished", "a")  # the configuration's list has one on val/loss
    assert record("a")["metric"] == "val/loss"
    assert len(list(Path("runs/a/checkpoints").glob("*.ckpt"))) == 3  # the best one, the last one, and the one before


@pytest.mark.parametrize(("option", "name"), [("checkpoint", "ModelCheckpoint"), ("early_stopping", "EarlyStopping")])
def test_the_same_callback_twice_is_refused(option, name, run, capsys) -> None:
    added = f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"
    assert run("fit", added, "--trainer.callbacks.monitor=val/loss", f"--{option}.monitor=val/loss") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} on val/loss is given twice")
    assert error.endswith(f"--{option}.monitor null\n")


def test_without_checkpointing_only_the_state_is_kept(run) -> None:
    configure(checkpoint={"monitor": "val/loss"})
    assert run("fit", "--run", "a", "--trainer.enable_checkpointing=false") == 0
    assert checkpoints("a") == []


@pytest.mark.parametrize("option", ["dirpath=x", "save_last=true", "enable_version_counter=true"])
def test_an_option_that_breaks_a_resume_is_refused(option, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", f"--checkpoint.{option}")
    assert f"there is no option --checkpoint.{option.split('=')[0]}" in capsys.readouterr().err


def test_a_monitor_that_is_not_logged_is_refused(run, capsys) -> None:
    configure(checkpoint={"monitor": "val/los"})
    assert run("fit", "--run", "a") == 1
    assert "ModelCheckpoint monitors val/los, which is not logged. Choose one of val/loss" in capsys.readouterr().err
    assert record("a")["status"] == "failed"


def test_early_stopping_waits_for_the_first_validation(run) -> None:
    within_an_epoch = ("--trainer.max_steps=3", "--trainer.max_epochs=-1")
    with pytest.warns(UserWarning, match="no val/loss to compare.*--trainer.val_check_interval N"):
        assert run("fit", "--run", "a", *STOPS, *within_an_epoch, data=StreamData) == 0


def test_an_average_that_has_not_begun_is_not_tested(run) -> None:
    averaging = ("--trainer.callbacks+=pytorch_lightning.callbacks.EMAWeightAveraging",)
    late = ("--trainer.callbacks.update_starting_at_step=1000",)
    assert run("fit", "--run", "plain") == 0
    assert run("fit", "--run", "averaged", *averaging, *late) == 0
    assert record("averaged", "test.json") == record("plain", "test.json")


class FailsToDraw(Toy):
    """A module without paper."""

    def show(self, outputs: list[Any], batch: Any, data: Any) -> dict[str, Any]:
        raise RuntimeError("no paper")


def test_a_picture_that_cannot_be_drawn_ends_no_run(run) -> None:
    with pytest.warns(UserWarning, match=r"show\(\) failed.*no paper"):
        assert run("fit", "--run", "a", PICTURES, module=FailsToDraw) == 0
    assert not Path("runs/a/images").exists()


def test_a_sweep_tries_options_of_callbacks(run, capsys) -> None:
    configure(checkpoint={"monitor": "val/loss"}, early_stopping={"monitor": "val/loss"})
    space = {"early_stopping.patience": {"choices": [1, 2]}, "checkpoint.save_top_k": {"choices": [1, 2]}}
    Path("configs/sweep.yaml").write_text(
        yaml.safe_dump({"metric": "val/loss", "direction": "minimize", "space": space})
    )
    assert run("sweep", "--trials=2", "--trainer.max_epochs=1") == 0
    best = yaml.safe_load(Path("runs/sweep/best.yaml").read_text())
    assert best["early_stopping"]["patience"] in (1, 2)
    assert best["checkpoint"]["save_top_k"] in (1, 2)


class Plateau(Toy):
    """Its schedule follows the validations."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=1e6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}


def test_a_plateau_waits_for_rarer_validations(run) -> None:
    assert (
        run("fit", "--run", "a", "--trainer.max_epochs=6", "--trainer.check_val_every_n_epoch=2", module=Plateau) == 0
    )
    (state,) = last_checkpoint("a")["lr_schedulers"]
    assert (state["last_epoch"], state["_last_lr"]) == (3, [pytest.approx(0.02 * 0.1**3)])


class OneCycle(Toy):
    interval = "step"

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": self.interval}}


class EpochCycle(OneCycle):
    interval = "epoch"


@pytest.mark.parametrize(("module", "count"), [(OneCycle, 18), (EpochCycle, 10)])
def test_a_cycle_that_is_too_short_is_refused_at_the_start(module, count, run, capsys) -> None:
    epochs = 3 if module is OneCycle else count
    assert run("fit", "--run", "a", f"--trainer.max_epochs={epochs}", module=module) == 1
    error = capsys.readouterr().err
    assert [word for word in ("OneCycleLR", "total_steps 9", f" {count} times") if word not in error] == []
    assert not Path("runs/a").exists()
    assert run("fit", "--trainer.max_epochs=1", module=module) == 0


class TwoSources(ToyData):
    def train_dataloader(self) -> Any:
        return {"one": self.loader(48, 0), "other": self.loader(24, 1)}


class ReadsTwo(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.stack([self.step(part, "train") for part in batch.values()]).sum()


def test_items_of_all_loaders_are_counted(run) -> None:
    assert run("fit", "--run", "a", "--trainer.max_epochs=1", module=ReadsTwo, data=TwoSources) == 0
    assert record("a")["train_items"] == 48 + 48  # the shorter loader begins again


class LogsLast(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
        if self.trainer.is_last_batch:
            self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss


def test_the_line_of_an_unfinished_epoch_repeats_nothing(run, capsys) -> None:
    bar = ("--trainer.callbacks+=lightning_runs.training.progress.ProgressBar", "--trainer.enable_progress_bar=true")
    assert run("fit", *bar, "--trainer.max_epochs=-1", "--trainer.max_steps=15", module=LogsLast) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]
    assert ["train/loss" in line for line in lines] == [True, True, False]


@pytest.mark.parametrize("where", ["file", "option"])
def test_names_of_lightnings_documentation_work(where, run) -> None:
    name = "lightning.pytorch.callbacks.LearningRateMonitor"
    Path("monitor.yaml").write_text(f"trainer:\n  callbacks:\n  - class_path: {name}\n")
    options = ["-c", "monitor.yaml"] if where == "file" else [f"--trainer.callbacks+={name}"]
    assert run("fit", "--run", "a", *options) == 0
    assert "class_path: pytorch_lightning.callbacks.LearningRateMonitor" in Path("runs/a/config.yaml").read_text()


class ReloadedData(ToyData):
    def train_dataloader(self) -> Any:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self.loader(48, epoch, shuffle=True)


@pytest.mark.parametrize("epochs", [1, 3])
def test_loaders_that_are_built_again_are_resumed(epochs, run, interrupt, capsys) -> None:
    option = f"--trainer.reload_dataloaders_every_n_epochs={epochs}"
    interrupt("a", option, data=ReloadedData)
    assert run("fit", "--resume", "a", data=ReloadedData) == 0
    assert ("every 3 epochs" in capsys.readouterr().out) == (epochs == 3)
    assert run("fit", "--run", "whole", option, data=ReloadedData) == 0
    if epochs == 1:
        assert_same("a", "whole")


def test_a_bare_trainer_is_refused(run, capsys) -> None:
    assert run("fit", "--trainer.barebones=true") == 1
    assert capsys.readouterr().err.startswith("error: trainer.barebones is true")
