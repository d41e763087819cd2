"""Runs with Lightning's own callbacks end the same whether something ended the process on their way or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import differences
from project import callback
from torch import nn
from toy import Toy
from written import record

EVERY_STEP = ("--save_every_n_steps", "1")
SWA = callback("StochasticWeightAveraging", "swa_lrs=0.01", "swa_epoch_start=1")
EXACT = {
    "SWA": SWA,
    "EMA": callback("EMAWeightAveraging", "decay=0.9"),
    "late EMA": callback("EMAWeightAveraging", "update_starting_at_step=8"),
    "accumulation by epoch": callback("GradientAccumulationScheduler", 'scheduling={"0": 1, "1": 2, "2": 3}'),
    "batch size": callback("BatchSizeFinder", "max_trials=2", "init_val=4"),
    "spikes": callback("SpikeDetection", "rtol=100"),
    "timer": callback("Timer", "duration=00:01:00:00"),
    "64 bit": ("--trainer.precision", "64-true"),
}


@pytest.fixture
def unlike(run, die):
    """Train a run that ends at a step and is resumed, and one that is left alone; return in what they differ."""

    def compare(*options: str, at: tuple[str, int] = ("training_step", 10), module: Any = Toy) -> list[str]:
        die("ended", *options, at=at, module=module)
        assert run("fit", "--resume", "ended", module=module) == 0
        assert run("fit", "--run", "whole", *options, module=module) == 0
        return differences(Path("runs/whole"), Path("runs/ended"))

    return compare


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_a_run_with_a_callback_is_resumed_exactly(options, unlike) -> None:
    assert unlike(*EVERY_STEP, *options) == []


def test_gradients_summed_from_the_second_epoch_on_stay_so(unlike) -> None:
    assert unlike(*EVERY_STEP, *callback("GradientAccumulationScheduler", 'scheduling={"1": 2}')) == []


class Normalized(Toy):
    """A network whose averaged weights need statistics of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_an_end_in_the_epoch_for_batch_statistics_loses_nothing(unlike) -> None:
    assert unlike(*EVERY_STEP, *SWA, at=("training_step", 20), module=Normalized) == []  # of the epochs 0 to 2


def test_an_end_in_the_test_after_early_stopping_is_kept(unlike) -> None:
    stopping = callback("EarlyStopping", "monitor=val/loss", "patience=1", "min_delta=100")
    assert unlike(*stopping, at=("test_step", 1)) == []
    assert record("whole")["epochs"] == 2


def test_more_model_checkpoints_leave_the_files_that_they_should(unlike) -> None:
    added = (
        *callback("ModelCheckpoint", "every_n_train_steps=3", "save_top_k=-1", "filename=step-{step}"),
        *callback("ModelCheckpoint", "monitor=train/loss", "filename=low-{epoch}"),
        *callback("ModelCheckpoint", "save_last=true", "filename=new-{epoch}"),
    )
    assert unlike("--save_every_n_steps", "4", *added, at=("training_step", 14)) == []


class Backbone(Toy):
    """As Lightning's page on fine-tuning has it: a backbone, and an optimizer of what is not frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step([self.backbone(batch[0]), batch[1]], batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], self.lr)


def test_a_backbone_that_is_unfrozen_is_resumed_exactly(unlike) -> None:
    tuning = callback("BackboneFinetuning", "unfreeze_backbone_at_epoch=1")
    assert unlike(*EVERY_STEP, *tuning, module=Backbone) == []


def test_pruning_is_refused_for_its_checkpoints_hold_no_masks(run, capsys) -> None:
    assert run("fit", "--run", "a", *callback("ModelPruning", "pruning_fn=l1_unstructured")) == 1
    assert "ModelPruning" in capsys.readouterr().err
    assert not Path("runs/a").exists()


WEIGHTED = """
import torch
from pytorch_lightning.callbacks import Callback

class Weighted(Callback):
    def __init__(self, weights: torch.Tensor | None = torch.ones(10)) -> None:
        self.sum = weights.sum()
"""


def test_a_value_that_config_yaml_can_not_hold_is_refused(run, own_folder, monkeypatch, capsys) -> None:
    (own_folder / "weighted.py").write_text(WEIGHTED)
    monkeypatch.syspath_prepend(own_folder)
    assert run("fit", "--run", "a", "--trainer.callbacks+=weighted.Weighted") == 1
    assert "Weighted.init_args.weights" in capsys.readouterr().err
    assert not Path("runs/a").exists()


UNLOADABLE = """
from pathlib import Path
from pytorch_lightning.callbacks import Callback

class Remembers(Callback):
    def state_dict(self):
        return {"file": Path("a")}
"""


def test_a_state_that_could_not_be_loaded_is_refused_at_once(run, own_folder, monkeypatch, capsys) -> None:
    (own_folder / "remembers.py").write_text(UNLOADABLE)
    monkeypatch.syspath_prepend(own_folder)
    assert run("fit", "--run", "a", "--trainer.callbacks+=remembers.Remembers") == 1
    assert "could not be resumed" in capsys.readouterr().err
    assert not Path("runs/a/metrics.csv").exists()
