"""Trainings that torchrun starts: two launchers stand in for two machines, and a worker is killed."""

from __future__ import annotations

import os
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
from warm import run, shared

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="PyTorch for Windows can't share a store like this")


@pytest.fixture
def project(bake_project) -> Path:
    project = bake_project({"logger": "csv"})
    (project / "hold.py").write_text(HOLD)
    return project


@contextmanager
def two_launchers(project: Path, *arguments: str, **environment: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Run README's command for two machines twice on this one, a process each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint=127.0.0.1:{port}", *arguments, *OPTIONS, "--trainer.num_nodes=2", "--trainer.devices=1"),
    ]
    launchers = []
    try:
        for number in range(2):
            with (project / f"launcher-{number}.out").open("w") as output:
                launchers.append(
                    subprocess.Popen(
                        command,
                        cwd=project,
                        env=clean_environment(project) | environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        text=True,
                        start_new_session=True,
                    )
                )
        yield launchers
    finally:
        for launcher in launchers:
            if launcher.poll() is None:
                launcher.terminate()  # which ends its workers too
                launcher.wait(timeout=60)


def output(project: Path) -> str:
    return "\n".join(file.read_text() for file in sorted(project.glob("launcher-*.out")))


def test_two_launchers_come_to_the_same_end_as_one_machine_even_if_a_worker_is_killed(project):
    whole = shared().start(project, [["fit", "--run=whole", *OPTIONS, "--trainer.devices=2"]], processes=2)
    assert whole.wait() == 0, whole.output()

    plain = ["-m", "--", PACKAGE, "fit", "--run=plain"]
    with two_launchers(project, *plain) as launchers:
        assert [launcher.wait(timeout=120) for launcher in launchers] == [0, 0], output(project)
    assert_same_end(project / "runs" / "plain", project / "runs" / "whole")

    elastic = ["--max-restarts=3", "-m", "--", PACKAGE, "fit", "--run=elastic", "--resume"]
    with two_launchers(project, *elastic, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1", HOLD_AT="20") as launchers:
        held = [project / f"held-{rank}-20" for rank in range(2)]
        end = time.monotonic() + 120
        while not all(file.exists() for file in held):
            assert time.monotonic() < end, output(project)
            time.sleep(0.1)
        os.kill(int(held[1].read_text()), signal.SIGKILL)
        assert [launcher.wait(timeout=120) for launcher in launchers] == [0, 0], output(project)
    assert_same_end(project / "runs" / "elastic", project / "runs" / "whole")
    assert sorted(folder.name for folder in (project / "runs").iterdir()) == ["elastic", "plain", "whole"]


REFUSED = [
    (["--trainer.num_nodes=2"], {}, "trainer.num_nodes is 2, but nothing started this process on several machines"),
    (
        ["--trainer.num_nodes=2"],
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NAME": "train"},
        "SLURM has 2 tasks for this job, but 1 was started",
    ),
    (["--trainer.num_nodes=2"], {"SLURM_NTASKS": "1"}, "trainer.num_nodes is 2, but nothing started this process"),
    (
        [],
        {"TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_MAX_RESTARTS": "3"},
        "torchrun was given --max-restarts 3: name the run",
    ),
]


@pytest.mark.parametrize(("arguments", "environment", "message"), REFUSED)
def test_what_would_wait_for_ever_is_refused_at_once(project, arguments, environment, message):
    started = time.monotonic()
    [(code, said)] = run(project, ["fit", *arguments], environment=environment)

    assert code == 1, said
    assert f"error: {message}" in said
    assert time.monotonic() - started < 60
    assert not (project / "runs").exists()
