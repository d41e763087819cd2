"""A signal saves at the end of the batch, and stops with its code."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Command, as_ranks, classes_folder, wait_for
from toy import Toy
from written import last_checkpoint, record

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75, "SIGHUP": 129}


class Signalled(Toy):
    signal_name: str

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 3:
            signal.raise_signal(getattr(signal, self.signal_name))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("name", CODES)
def test_a_signal_in_a_step_ends_with_its_code_after_it(name, run, capsys) -> None:
    Signalled.signal_name = name
    assert run("fit", "--run", "a", module=Signalled) == CODES[name]
    assert f"stopped by {name}; to resume: python -m toy_project fit --resume" in capsys.readouterr().err
    assert record("a")["status"] == "interrupted"
    assert last_checkpoint("a")["global_step"] == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which classes of `own_classes` train without end."""
    return classes_folder(tmp_path / "own", max_epochs=1000)


FIT = ("own_classes", "classifier", "plain_data", "fit", "--run=a", "--save_every_n_steps=5")


@pytest.mark.parametrize("name", [*CODES][:2])
def test_a_process_that_is_signalled_can_be_resumed(name, folder) -> None:
    command = Command(folder, *FIT)
    wait_for((folder / "runs/a/checkpoints/last.ckpt").exists, [command])
    os.kill(command.pid, getattr(signal, name))
    assert command.wait(60) == CODES[name], command.output()
    assert "Traceback" not in command.output()
    again = Command(folder, "own_classes", "classifier", "plain_data", "fit", "--resume", "--trainer.max_epochs=1")
    assert again.wait() == 0, again.output()


@pytest.mark.slow
@pytest.mark.parametrize("name", CODES)
def test_a_signal_to_one_of_two_devices_ends_both(name, folder) -> None:
    ranks = as_ranks(folder, *FIT, "--trainer.devices=2", "--trainer.strategy=ddp")
    wait_for((folder / "runs/a/checkpoints/last.ckpt").exists, ranks)
    os.kill(ranks[1].pid, getattr(signal, name))
    assert [rank.wait(60) for rank in ranks] == [CODES[name]] * 2, ranks[0].output()


def test_a_second_ctrl_c_ends_a_step_that_hangs(folder) -> None:
    command = Command(folder, *FIT, hold=("own_classes.classifier", "training_step", 2))
    wait_for((folder / f"held-{command.pid}").exists, [command])
    os.kill(command.pid, signal.SIGINT)
    end = time.monotonic() + 60  # the step itself would hang for longer
    while command.exit_code() is None and time.monotonic() < end:
        time.sleep(0.1)
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(command.pid, signal.SIGINT)
    code = command.exit_code()
    command.kill()
    assert code == 130, command.output()
