"""A signal saves at the end of the batch, and stops with its code."""

import os
import signal
from typing import Any

import pytest
import torch
from processes import as_ranks, classes_folder, wait_for
from toy import Toy
from written import assert_same, last_checkpoint, record

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
    wait_for((folder / "runs/a/checkpoints/last.ckpt").exists, ranks)
    os.kill(ranks[1].pid, signal.SIGUSR1)
    assert [rank.wait(60) for rank in ranks] == [75, 75], ranks[0].output()
