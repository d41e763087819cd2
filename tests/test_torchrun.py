"""Trainings that torchrun starts: two launchers stand in for two machines, and a worker is killed."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from comparison import differences
from processes import Command, as_ranks, classes_folder, wait_for
from project import LIBRARY, clean_environment
from torch.distributed import TCPStore

PROGRAM = ("own_classes", "classifier", "plain_data")
FIT = ("--trainer.strategy=ddp", "--save_every_n_steps=2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return classes_folder(tmp_path / "own", "val_loss")


class Launcher:
    """One of torchrun's launchers, with its output in a file."""

    def __init__(self, folder: Path, number: int, words: list[str], environment: dict[str, str]) -> None:
        self._file = folder / f"launcher-{number}.out"
        with self._file.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *words],
                cwd=folder,
                env=clean_environment(folder) | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def exit_code(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.process.poll()

    def output(self) -> str:
        """Return what it and its worker have written so far."""
        return self._file.read_text()


@contextmanager
def two_launchers(folder: Path, words: list[str], **environment: str) -> Iterator[list[Launcher]]:
    """Run a command of torchrun twice, as on two machines."""
    launchers = [Launcher(folder, number, words, environment) for number in range(2)]
    try:
        yield launchers
    finally:
        for launcher in launchers:
            launcher.process.terminate()  # which ends its workers too
            launcher.process.wait(timeout=60)


def documented_command(name: str) -> list[str]:
    """The command that the page on clusters gives for several machines."""
    page = (LIBRARY / "lightning_runs" / "docs" / "clusters.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun .*$", page, re.MULTILINE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    words = shlex.split(line.replace("HOST:29400", endpoint).replace("NAME", name))
    module = words.index("--") + 1
    return [*words[:module], *PROGRAM, *words[module + 1 :], *FIT]


def train_whole(folder: Path) -> None:
    ranks = as_ranks(folder, *PROGRAM, "fit", "--run=whole", "--trainer.devices=2", *FIT)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].output()


def test_two_launchers_come_to_the_same_end_as_one_machine(folder):
    train_whole(folder)
    words = documented_command("plain")[2:]
    words = [word for word in words if word != "--resume"]
    del words[words.index("--max-restarts") : words.index("--max-restarts") + 2]
    with two_launchers(folder, words) as launchers:
        codes = [launcher.process.wait(timeout=300) for launcher in launchers]
    assert codes == [0, 0], launchers[0].output()
    assert differences(folder / "runs" / "whole", folder / "runs" / "plain") == []
    assert sorted(run.name for run in (folder / "runs").iterdir()) == ["plain", "whole"]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_without_a_trace(folder):
    train_whole(folder)
    setting, _, *words = documented_command("elastic")
    words.append("--trainer.callbacks+=own_classes.hold.Hold")
    with two_launchers(folder, words, **dict([setting.split("=")]), HOLD_AT="8") as launchers:
        held = [folder / f"held-{rank}-8" for rank in range(2)]
        wait_for(lambda: all(file.exists() for file in held), launchers)
        os.kill(int(held[1].read_text()), signal.SIGKILL)
        codes = [launcher.process.wait(timeout=300) for launcher in launchers]
    assert codes == [0, 0], launchers[0].output()
    assert differences(folder / "runs" / "whole", folder / "runs" / "elastic") == []


NODES = ["--trainer.num_nodes=2", "--trainer.devices=1"]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "0", "WORLD_SIZE": "2"}
SLURM = {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1", "SLURM_NTASKS_PER_NODE": "1"}
REFUSED = {
    "no launcher": (NODES, {}, "trainer.num_nodes is 2"),
    "one task": (NODES, SLURM | {"SLURM_NTASKS": "1"}, "trainer.num_nodes is 2"),
    "one of two tasks": ([], SLURM | {"SLURM_NTASKS": "2"}, "SLURM has 2 tasks"),
    "no name": ([], TORCHRUN | {"TORCHELASTIC_MAX_RESTARTS": "3"}, "--max-restarts 3"),
}


@pytest.mark.parametrize(("arguments", "environment", "named"), REFUSED.values(), ids=REFUSED)
def test_what_would_wait_forever_is_refused_at_once(arguments, environment, named, folder):
    command = Command(folder, *PROGRAM, "fit", *arguments, environment=environment)
    assert command.wait(60) == 1, command.output()
    assert named in command.output()
    assert not (folder / "runs").exists()


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def as_rank(rank: int, store: TCPStore) -> dict[str, str]:
    return TORCHRUN | {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}


def test_a_restart_that_would_meet_dead_processes_is_refused(folder, store):
    environment = as_rank(0, store) | {"TORCHELASTIC_MAX_RESTARTS": "3"}
    command = Command(folder, *PROGRAM, "fit", "--run=a", "--resume", *NODES, environment=environment)
    assert command.wait(60) == 1, command.output()
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in command.output()
    assert not (folder / "runs").exists()
