"""Checkpoint files are whole or absent, whatever happens to the process, the disk or the numbers."""

import contextlib
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs.resume.checkpoint_files import newest_whole, read
from processes import Command, wait_for
from toy import Toy
from written import record


def latest(folder: Path) -> int:
    """Tell saves apart; between its two renames a save leaves no last.ckpt, but previous.ckpt."""
    times = [0]
    for name in ("last.ckpt", "previous.ckpt"):
        with contextlib.suppress(FileNotFoundError):
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


def test_kills_of_a_process_that_saves_leave_whole_files(own_folder) -> None:
    choose = random.Random(0)
    folder = own_folder / "saved"
    cut_short = 0
    for _ in range(20):
        before = latest(folder)
        command = Command(own_folder, "saving")
        wait_for(lambda seen=before: latest(folder) != seen, [command])
        time.sleep(choose.uniform(0, 0.03))
        command.kill()
        for leftover in folder.glob(".*.tmp"):
            cut_short += 1
            leftover.unlink()
        for file in folder.glob("*.ckpt"):
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
    passed_over: list[str] = []
    assert newest_whole(folder, passed_over.append)
    assert passed_over == []
    for content in map(read, folder.glob("*.ckpt")):
        assert (content["weights"] == content["number"]).all()
    assert cut_short > 2  # else the kills hit nothing


class Diverges(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (float("nan") if self.global_step == 8 else 1)


def test_a_loss_that_is_not_finite_leaves_a_checkpoint_to_use(run, capsys) -> None:
    assert run("fit", "--run", "a", "--save_every_n_steps", "1", module=Diverges) == 1
    assert "step 9" in capsys.readouterr().err
    assert run("predict", "--ckpt_path", "runs/a/checkpoints/last.ckpt") == 0
    weights = read(Path("runs/a/checkpoints/last.ckpt"))["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("limit", ["--trainer.max_steps=3", "--trainer.limit_val_batches=0"])
def test_without_a_validation_the_last_weights_are_tested(limit, run, capsys) -> None:
    assert run("fit", "--run", "a", "--early_stopping.monitor=val/loss", limit) == 0
    assert capsys.readouterr().err.count("val/loss") <= 1
    assert record("a", "test.json")["checkpoint"] == "last.ckpt"
