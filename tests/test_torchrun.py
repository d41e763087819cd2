"""Trainings that torchrun starts: two launchers stand in for two machines, and a worker is killed."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from comparison import differences
from processes import as_ranks, classes_folder, free_port, held_processes
from project import LIBRARY, clean_environment

PROGRAM = ("own_classes", "classifier", "plain_data")
FIT = ("--trainer.strategy=ddp", "--save_every_n_steps=2")
# the command that the page on clusters gives for several machines, after a setting of the environment
PAGE = (LIBRARY / "lightning_runs" / "docs" / "clusters.md").read_text(encoding="utf-8")
(DOCUMENTED,) = re.findall(r"^TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_launchers_come_to_the_same_end_as_one_machine(kill, tmp_path):
    folder = classes_folder(tmp_path / "own", "val_loss")
    words = shlex.split(DOCUMENTED.replace("HOST:29400", f"127.0.0.1:{free_port()}").replace("NAME", "a"))
    package = words.index("PACKAGE")
    words[package : package + 1] = PROGRAM
    hold = ["--trainer.callbacks+=own_classes.hold.Hold"] if kill else []
    torchrun = [sys.executable, "-m", "torch.distributed.run", *words, *FIT, *hold]
    environment = clean_environment(folder) | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "HOLD_AT": "8"}
    launchers = [subprocess.Popen(torchrun, cwd=folder, env=environment) for _ in range(2)]
    try:
        if kill:  # a worker, which is replaced
            os.kill(held_processes(folder, 8, launchers)[1], signal.SIGKILL)
        assert [launcher.wait(timeout=300) for launcher in launchers] == [0, 0]
    finally:
        for launcher in launchers:
            launcher.terminate()  # which ends its workers too
            launcher.wait(timeout=60)
    ranks = as_ranks(folder, *PROGRAM, "fit", "--run=whole", "--trainer.devices=2", *FIT)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output()
    assert differences(folder / "runs" / "whole", folder / "runs" / "a") == []
    assert sorted(run.name for run in (folder / "runs").iterdir()) == ["a", "whole"]
