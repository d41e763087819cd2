"""Trainings that torchrun starts: two launchers stand in for two machines, and a worker is killed."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from launched import HOLD, OPTIONS, assert_same_end
from project import PACKAGE, clean_environment
from torch.distributed import TCPStore
from warm import run, shared

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="PyTorch for Windows has no such launchers")


@pytest.fixture
def project(bake_project) -> Path:
    project = bake_project({"logger": "csv"})
    (project / "hold.py").write_text(HOLD)
    return project


@contextmanager
def two_launchers(project: Path, words: list[str], **environment: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a command of torchrun twice, as on two machines."""
    command = [sys.executable, "-m", "torch.distributed.run", *words, *OPTIONS]
    launchers = []
    try:
        for number in range(2):
            with (project / f"launcher-{number}.out").open("w") as output:
                launcher = subprocess.Popen(
                    command,
                    cwd=project,
                    env=clean_environment(project) | environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            launchers.append(launcher)
        yield launchers
    finally:
        for launcher in launchers:
            if launcher.poll() is None:
                launcher.terminate()  # which ends its workers too
                launcher.wait(timeout=60)


def output(project: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(project.glob("launcher-*.out")))


def documented_command(project: Path, name: str) -> list[str]:
    """The command that docs/clusters.md gives for several machines."""
    (line,) = re.findall(
        r"^TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun .*$", (project / "docs" / "clusters.md").read_text(), re.M
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    return shlex.split(line.replace("HOST:29400", endpoint).replace("NAME", name))


def test_two_launchers_come_to_the_same_end_as_one_machine_even_if_a_worker_is_killed(project):
    whole = shared().start(project, [["fit", "--run=whole", *OPTIONS, "--trainer.devices=2"]], processes=2)
    assert whole.wait() == 0, whole.output()

    _, _, *words = documented_command(project, "plain")
    plain = [word for word in words if word != "--resume"]
    del plain[plain.index("--max-restarts") : plain.index("--max-restarts") + 2]
    with two_launchers(project, plain) as launchers:
        assert [launcher.wait(timeout=300) for launcher in launchers] == [0, 0], output(project)
    assert_same_end(project / "runs" / "plain", project / "runs" / "whole")

    setting, _, *elastic = documented_command(project, "elastic")
    with two_launchers(project, elastic, **dict([setting.split("=")]), HOLD_AT="20") as launchers:
        held = [project / f"held-{rank}-20" for rank in range(2)]
        end = time.monotonic() + 240
        while not all(file.exists() for file in held):
            assert time.monotonic() < end, output(project)
            time.sleep(0.1)
        os.kill(int(held[1].read_text()), signal.SIGKILL)
        assert [launcher.wait(timeout=300) for launcher in launchers] == [0, 0], output(project)
    assert_same_end(project / "runs" / "elastic", project / "runs" / "whole")
    assert sorted(folder.name for folder in (project / "runs").iterdir()) == ["elastic", "plain", "whole"]


NODES = ["--trainer.num_nodes=2", "--trainer.devices=1"]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "0", "WORLD_SIZE": "2"}
RESTARTS = TORCHRUN | {"TORCHELASTIC_MAX_RESTARTS": "3"}
SLURM = {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1", "SLURM_NTASKS_PER_NODE": "1"}
REFUSED = [
    (NODES, {}, "trainer.num_nodes is 2, but nothing started this process on several machines"),
    (NODES, SLURM | {"SLURM_NTASKS": "1"}, "trainer.num_nodes is 2, but nothing started this process"),
    ([], SLURM | {"SLURM_NTASKS": "2"}, "SLURM has 2 tasks for this job, but 1 was started"),
    (
        [],
        RESTARTS,
        "torchrun was given --max-restarts 3: name the run, so that what it restarts",
    ),
]


@pytest.mark.parametrize(("arguments", "environment", "message"), REFUSED)
def test_what_would_wait_for_ever_is_refused_at_once(project, arguments, environment, message):
    [(code, said)] = run(project, ["fit", *arguments], environment=environment)

    assert code == 1, said
    assert f"error: {message}" in said
    assert not (project / "runs").exists()


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def as_rank(rank: int, store: TCPStore) -> dict[str, str]:
    return TORCHRUN | {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}


def test_a_restart_that_would_meet_the_addresses_of_dead_processes_is_refused(project, store):
    environment = as_rank(0, store) | {"TORCHELASTIC_MAX_RESTARTS": "3"}
    [(code, said)] = run(project, ["fit", "--run=a", "--resume", *NODES], environment=environment)

    assert code == 1, said
    assert "Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun." in said
    assert not (project / "runs").exists()


def test_a_machine_that_reads_other_checkpoints_than_rank_0_is_refused(project, store):
    [(code, said)] = run(project, ["fit", "--run=a", *OPTIONS, "--trainer.max_epochs=1"])
    assert code == 0, said

    store.set(f"{PACKAGE}.runtime/resumed", str(project / "runs" / "a"))
    store.set(f"{PACKAGE}.runtime/position", "Position(epoch=7, batch=3, step=99)")
    arguments = ["fit", "--run=a", "--resume", *OPTIONS, "--trainer.max_epochs=2"]
    [(code, said)] = run(project, arguments, environment=as_rank(1, store))

    assert code == 1, said
    assert "error: this process reads " in said
    assert "the machines do not see the same files" in said
