"""Checkpoint files: whole or absent whatever happens to the process or the disk, and read without executing them."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
import zipfile
from pathlib import Path

import pytest
from project import PACKAGE, SMALL
from warm import run, shared

# Saves 4 MB again and again, each with a number, and tells of each that it was saved.
SAVING = f"""
import torch
from pathlib import Path
from {PACKAGE}.runtime.checkpoints import WholeFiles
weights = torch.zeros(1_000_000)
progress = {{"current": {{"started": 1, "processed": 0}}}}
loop = {{"epoch_progress": progress, "epoch_loop.batch_progress": progress, "epoch_loop.state_dict": {{}}}}
state = {{"loops": {{"fit_loop": loop}}, "callbacks": {{}}, "optimizer_states": [], "lr_schedulers": []}}
state["global_step"] = 1
for number in range(1000):  # not for ever, should the test be stopped
    WholeFiles().save_checkpoint({{**state, "number": number, "weights": weights + number}}, Path("saved/last.ckpt"))
"""
READING = f"""
import json, os
from pathlib import Path
from {PACKAGE}.runtime.checkpoints import newest_whole, read
passed_over = []
file, _ = newest_whole(Path("saved"), passed_over.append)
found = {{f.name: read(f) for f in Path("saved").glob("*.ckpt")}}
assert all((c["weights"] == c["number"]).all() for c in found.values())
Path("found.json").write_text(json.dumps([str(file), passed_over, {{n: c["number"] for n, c in found.items()}}]))
"""


def latest(folder: Path) -> int:
    """Tell saves apart; between its two renames a save leaves no last.ckpt, but previous.ckpt."""
    times = [0]
    for name in ("last.ckpt", "previous.ckpt"):
        with contextlib.suppress(FileNotFoundError):
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir(), reason="/dev/shm is not there: a file system other than the project's"
)
def test_forty_kills_of_a_process_that_saves_leave_no_unreadable_file_at_a_final_name(tmp_path):
    choose = random.Random(0)
    written_partly = 0
    folder = tmp_path / "saved"
    for _ in range(40):
        command = shared().start(tmp_path, [], before=SAVING, environment={"TMPDIR": "/dev/shm"})
        before = latest(folder)
        while latest(folder) == before:
            time.sleep(0.002)
        time.sleep(choose.uniform(0, 0.03))
        command.kill()
        for leftover in folder.glob(".*.tmp"):
            written_partly += 1
            leftover.unlink()
        for file in folder.glob("*.ckpt"):
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
    check = shared().start(tmp_path, [], before=READING)
    check.wait()
    assert (tmp_path / "found.json").exists(), check.output()
    file, passed_over, numbers = json.loads((tmp_path / "found.json").read_text())
    assert Path(file).name in ("last.ckpt", "previous.ckpt")
    assert passed_over == []
    assert numbers
    assert written_partly > 8  # most of the time of the process is writing


def damaged(file: Path) -> None:
    """Flip a bit in the middle of a file, as a failing disk does; `torch.load` does not notice."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("harm", [damaged, cut_short])
def test_a_resume_passes_over_a_damaged_checkpoint_and_says_so(bake_project, harm):
    project = bake_project({"logger": "csv"})
    small = [*SMALL, "--save_every_n_steps=1"]
    [(code, output)] = run(project, ["fit", "--run=a", *small])
    assert code == 0, output
    folder = project / "runs" / "a" / "checkpoints"
    harm(folder / "last.ckpt")

    [(code, output)] = run(project, ["fit", "--resume=a"])

    assert code == 0, output
    said = [line for line in output.splitlines() if line.endswith("It is passed over.")]
    assert len(said) == 1
    assert f"the checkpoint {folder / 'last.ckpt'} can't be read: " in said[0]
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["status"] == "finished"


def test_a_run_without_a_readable_checkpoint_is_not_begun_anew(bake_project):
    project = bake_project({"logger": "csv"})
    [_] = run(project, ["fit", "--run=a", *SMALL])
    folder = project / "runs" / "a" / "checkpoints"
    files = list(folder.glob("*.ckpt"))
    for file in files:
        cut_short(file)

    [(code, output)] = run(project, ["fit", "--resume=a"])

    assert code == 1
    assert f"none of the {len(files)} files {folder / '*.ckpt'} can be used. Start a new run with: fit" in output


# A disk of 3 MB: what is written beyond that is refused, as a full disk does it.
FULL = """
import builtins, errno, os, torch
real = torch.save
def save(checkpoint, file):
    if os.environ.get("FULL_AFTER") and checkpoint["global_step"] >= int(os.environ["FULL_AFTER"]):
        file.write(b"half of a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")
    real(checkpoint, file)
torch.save = save
"""


def test_a_full_disk_ends_the_run_with_its_last_checkpoint_kept(bake_project):
    project = bake_project({"logger": "csv"})
    small = [*SMALL, "--save_every_n_steps=2"]
    [(code, output)] = run(project, ["fit", "--run=a", *small], before=FULL, environment={"FULL_AFTER": "3"})

    folder = project / "runs" / "a" / "checkpoints"
    assert code == 1
    assert "error: the disk is full: " in output
    assert " MB. The last checkpoint before it is kept; make room, and go on with: fit --resume" in output
    assert "Traceback" not in output
    assert list(folder.glob(".*")) == []
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["status"] == "failed"
    [(code, output)] = run(project, ["fit", "--resume=a"])
    assert code == 0, output


UNLOADABLE = """
from pathlib import Path
import numpy
from pytorch_lightning.callbacks import Callback

class Remembers(Callback):
    def state_dict(self):
        return {"file": Path("a"), "best": numpy.float64(1)}
"""


def test_what_could_not_be_loaded_again_is_found_before_the_first_step(bake_project):
    project = bake_project({"logger": "csv"})
    (project / "remembers.py").write_text(UNLOADABLE)
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, "--trainer.callbacks+=remembers.Remembers"])

    assert code == 1
    assert "error: this run could not be resumed: " in output
    assert (
        "Keep only numbers, texts, lists, dicts and tensors in hyperparameters and in the state of callbacks." in output
    )
    assert "epoch 1/2" not in output


def test_a_loss_that_is_not_finite_is_told_with_step_epoch_batch_and_parameter(bake_project):
    project = bake_project({"logger": "csv"})
    options = ["--model.optimizer.init_args.lr=1e30", "--save_every_n_steps=1", "--model.scheduler=null"]
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, *options])

    assert code == 1
    assert "error: the loss is not finite at step 2 (epoch 0, batch 1): the training has diverged; " in output
    assert "The last finite checkpoint is kept." in output
    [(code, output)] = run(
        project,
        ["predict", "--ckpt_path=runs/a/checkpoints/last.ckpt"],
        before="import torch; torch.set_num_threads(1)",
    )
    assert code == 0, output  # it can be loaded and used


@pytest.mark.skipif(sys.platform == "win32", reason="these are signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGUSR1", 75), ("SIGHUP", 129)])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_saves_at_the_end_of_the_batch_and_stops_with_its_code(bake_project, name, code, processes):
    project = bake_project({"logger": "csv"})
    (project / "sends.py").write_text(SENDS)
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp"] if processes == 2 else []
    arguments = ["fit", "--run=a", *SMALL, *ddp, "--trainer.callbacks+=sends.Sends"]
    command = shared().start(project, [arguments], environment={"SENT": name}, processes=processes)

    assert command.wait() == code, command.output()
    output = command.output()
    assert f"stopped by {name}; to go on: python -m {PACKAGE} fit --resume" in output
    assert "Traceback" not in output
    assert json.loads((project / "runs" / "a" / "run.json").read_text())["status"] == "interrupted"
    position = shared().start(project, [], before=POSITION)
    position.wait()
    assert "Position(epoch=1, batch=1, step=4)" in position.output()


# Sends a signal to its process during the fourth step, in the second process if there are two.
SENDS = """
import os, signal
from pytorch_lightning.callbacks import Callback

class Sends(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 3 and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), getattr(signal, os.environ["SENT"]))
"""
POSITION = f"""
from {PACKAGE}.runtime.checkpoints import position, read
print(position("last.ckpt", read("runs/a/checkpoints/last.ckpt")))
"""
