"""Checkpoint files are whole or absent, whatever happens to the process or to the numbers; a signal saves and stops."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import kill
from lightning_runs.resume import checkpoint_files
from processes import as_ranks, classes_folder
from toy import Toy, assert_fails
from written import assert_same, last_checkpoint, record


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


def test_a_loss_that_is_not_finite_leaves_a_checkpoint_to_use(run) -> None:
    assert_fails(["the loss", "step 9 (epoch 1)"], "fit", "--run", "a", "--save_every_n_steps", "1", module=Diverges)
    assert record("a")["status"] == "failed"
    file = Path("runs/a/checkpoints/last.ckpt")
    assert run("predict", "--ckpt_path", str(file)) == 0
    weights = torch.load(file, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("limit", ["--trainer.max_steps=3", "--trainer.limit_val_batches=0"])
def test_without_a_validation_the_last_weights_are_tested(limit, run) -> None:
    assert run("fit", "--run", "a", "--early_stopping.monitor=val/loss", limit) == 0
    assert record("a", "test.json")["checkpoint"] == "last.ckpt"


CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75, "SIGHUP": 129}


@pytest.mark.parametrize("name", CODES)
def test_a_signal_in_a_step_ends_with_its_code_after_it(name, run, have, capsys) -> None:
    class Signalled(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == 3:
                signal.raise_signal(getattr(signal, name))
            return super().training_step(batch, batch_idx)

    assert run("fit", "--run", "a", module=Signalled) == CODES[name]
    assert f"stopped by {name}; to resume: python -m toy_project fit --resume" in capsys.readouterr().err
    assert record("a")["status"] == "interrupted"
    assert last_checkpoint("a")["global_step"] == 4
    assert run("fit", "--resume") == 0
    have("finished", "whole")
    assert_same("a", "whole")


def test_a_second_ctrl_c_ends_a_step_that_hangs(run) -> None:
    class Hangs(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the step has not ended")

    assert run("fit", "--run", "a", module=Hangs) == 130


@pytest.mark.slow
def test_a_signal_to_one_of_two_devices_ends_both(tmp_path) -> None:
    folder = classes_folder(tmp_path / "own", max_epochs=1000)
    options = ("fit", "--run=a", "--save_every_n_steps=5", "--trainer.devices=2", "--trainer.strategy=ddp")
    ranks = as_ranks(folder, "own_classes", "classifier", "plain_data", *options)
    while not (folder / "runs/a/checkpoints/last.ckpt").exists():
        assert ranks[0].exitcode is None, ranks[0].output()
        time.sleep(0.1)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGUSR1)
    assert [rank.wait(60) for rank in ranks] == [75, 75], ranks[0].output()
