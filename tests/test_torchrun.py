"""Trainings that torchrun starts: two launchers stand in for two machines, and a worker is killed."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from comparison import differences
from processes import as_ranks, classes_folder, free_port, held_processes
from project import LIBRARY, clean_environment

PROGRAM = ("own_classes", "classifier", "plain_data")
FIT = ("--trainer.strategy=ddp", "--save_every_n_steps=2")
# the command that the page on clusters gives for several machines, after a setting of the environment
PAGE = (LIBRARY / "lightning_runs" / "docs" / "clusters.md").read_text(encoding="utf-8")
(DOCUMENTED,) = re.findall(r"^TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun (.*)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return classes_folder(tmp_path / "own", "val_loss")


@contextmanager
def two_launchers(folder: Path, name: str, *options: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the documented command twice, as on two machines."""
    words = shlex.split(DOCUMENTED.replace("HOST:29400", f"127.0.0.1:{free_port()}").replace("NAME", name))
    package = words.index("PACKAGE")
    words[package : package + 1] = PROGRAM
    torchrun = [sys.executable, "-m", "torch.distributed.run", *words, *FIT, *options]
    environment = clean_environment(folder) | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "HOLD_AT": "8"}
    launchers = [subprocess.Popen(torchrun, cwd=folder, env=environment) for _ in range(2)]
    try:
        yield launchers
    finally:
        for launcher in launchers:
            launcher.terminate()  # which ends its workers too
            launcher.wait(timeout=60)


def check_end(folder: Path, launchers: list[subprocess.Popen[bytes]], name: str) -> None:
    """Both launchers end well, and the run is that of two processes on one machine."""
    assert [launcher.wait(timeout=300) for launcher in launchers] == [0, 0]
    ranks = as_ranks(folder, *PROGRAM, "fit", "--run=whole", "--trainer.devices=2", *FIT)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output()
    assert differences(folder / "runs" / "whole", folder / "runs" / name) == []
    assert sorted(run.name for run in (folder / "runs").iterdir()) == [name, "whole"]


def test_two_launchers_come_to_the_same_end_as_one_machine(folder):
    with two_launchers(folder, "plain") as launchers:
        check_end(folder, launchers, "plain")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_without_a_trace(folder):
    with two_launchers(folder, "elastic", "--trainer.callbacks+=own_classes.hold.Hold") as launchers:
        os.kill(held_processes(folder, 8, launchers)[1], signal.SIGKILL)
        check_end(folder, launchers, "elastic")
