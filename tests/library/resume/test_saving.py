"""Checkpoint files are whole or absent, whatever happens to the process or to the numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from killed import kill
from lightning_runs.resume import checkpoint_files
from toy import Toy
from written import assert_same, record


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", ["os.fsync", "os.replace"])
def test_a_kill_within_a_save_leaves_whole_files(place, when, run, have) -> None:
    have("finished", "whole")
    kill("fit", "--run=a", "--save_every_n_steps=1", place=place, calls=9, when=when)
    folder = Path("runs/a/checkpoints")
    assert [checkpoint_files.read(file)["epoch"] for file in folder.glob("*.ckpt")]
    assert run("fit", "--resume") == 0
    assert_same("a", "whole")
    assert list(folder.glob(".*.tmp")) == []


class Diverges(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (float("nan") if self.global_step == 8 else 1)


def test_a_loss_that_is_not_finite_leaves_a_checkpoint_to_use(run, capsys) -> None:
    assert run("fit", "--run", "a", "--save_every_n_steps", "1", module=Diverges) == 1
    assert "the loss is not finite after step 9" in capsys.readouterr().err
    file = Path("runs/a/checkpoints/last.ckpt")
    assert run("predict", "--ckpt_path", str(file)) == 0
    weights = torch.load(file, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("limit", ["--trainer.max_steps=3", "--trainer.limit_val_batches=0"])
def test_without_a_validation_the_last_weights_are_tested(limit, run) -> None:
    assert run("fit", "--run", "a", "--early_stopping.monitor=val/loss", limit) == 0
    assert record("a", "test.json")["checkpoint"] == "last.ckpt"
