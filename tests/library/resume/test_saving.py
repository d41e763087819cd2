"""Checkpoint files are whole or absent, whatever happens to the process or to the numbers."""

import contextlib
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Command, classes_folder, wait_for
from toy import Toy
from written import record

# Saves 15 MB after each step, which takes most of the time.
SAVES = (
    "fit",
    "--run=a",
    "--resume",
    "--save_every_n_steps=1",
    "--model.hidden_dim=20000",
    "--trainer.max_epochs=1000",
)


def latest(folder: Path) -> int:
    """Tell saves apart; between its two renames a save leaves no last.ckpt, but previous.ckpt."""
    times = [0]
    for name in ("last.ckpt", "previous.ckpt"):
        with contextlib.suppress(FileNotFoundError):
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


def test_kills_of_a_process_that_saves_leave_whole_files(tmp_path) -> None:
    choose = random.Random(0)
    folder = classes_folder(tmp_path / "own")
    checkpoints = folder / "runs" / "a" / "checkpoints"
    cut_short = 0
    for _ in range(8):
        command = Command(folder, "own_classes", "classifier", "plain_data", *SAVES)
        for _ in range(3):  # the first save of a process is read again
            before = latest(checkpoints)
            wait_for(lambda seen=before: latest(checkpoints) != seen, [command])
        time.sleep(choose.uniform(0, 0.1))
        command.kill()
        assert "can't be read" not in command.output()  # nor did the kill before leave a damaged file
        cut_short += len(list(checkpoints.glob(".*.tmp")))
        for file in checkpoints.glob("*.ckpt"):
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
    assert cut_short > 0  # else the kills hit nothing


class Diverges(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (float("nan") if self.global_step == 8 else 1)


def test_a_loss_that_is_not_finite_leaves_a_checkpoint_to_use(run, capsys) -> None:
    assert run("fit", "--run", "a", "--save_every_n_steps", "1", module=Diverges) == 1
    assert "step 9" in capsys.readouterr().err
    file = Path("runs/a/checkpoints/last.ckpt")
    assert run("predict", "--ckpt_path", str(file)) == 0
    weights = torch.load(file, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("limit", ["--trainer.max_steps=3", "--trainer.limit_val_batches=0"])
def test_without_a_validation_the_last_weights_are_tested(limit, run) -> None:
    assert run("fit", "--run", "a", "--early_stopping.monitor=val/loss", limit) == 0
    assert record("a", "test.json")["checkpoint"] == "last.ckpt"
