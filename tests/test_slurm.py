"""The script for SLURM that a project comes with; two small scripts stand in for ``srun`` and ``scontrol``."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison import differences
from processes import free_port, held_processes
from project import PACKAGE, ROOT, clean_environment, command

pytestmark = pytest.mark.slow
# Two tasks on one node. It ends with the highest exit code, as SLURM's does.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & second=$!
wait $first; one=$?
wait $second; two=$?
exit $((one > two ? one : two))
"""
SCONTROL = '#!/bin/bash\necho "$@" >> scontrol.txt\n'
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost", "SLURM_NODEID": "0"}
JOB |= {"SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2"}
JOB["SLURM_CPUS_PER_TASK"] = "1"
OPTIONS = (
    *("--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.max_epochs=3", "--data.batch_size=16"),
    *("--trainer.limit_train_batches=12", "--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
)


@pytest.fixture
def project(bake_project: Callable[..., Path]) -> Path:
    """A project, and SLURM's commands in its folder."""
    project = bake_project({"logger": "csv"})
    shutil.copy(ROOT / "tests" / "own_classes" / "hold.py", project)
    python = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "python": python}.items():
        (project / name).write_text(text)
        (project / name).chmod(0o755)
    return project


def start(project: Path, *options: str) -> subprocess.Popen[bytes]:
    """Run the script as SLURM does with a job."""
    environment = clean_environment(project) | JOB | {"MASTER_PORT": str(free_port()), "HOLD_AT": "17"}
    environment["PATH"] = f"{project}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(["bash", "scripts/train.sbatch", *options], cwd=project, env=environment)


def test_a_job_that_is_requeued_ends_like_a_whole_one(project):
    hold = "--trainer.callbacks+=hold.Hold"
    job = start(project, *OPTIONS, hold)
    for process in held_processes(project, 17, [job]):
        os.kill(process, signal.SIGUSR1)
    assert job.wait() == 75
    assert (project / "scontrol.txt").read_text() == "requeue 7\n"

    assert start(project, *OPTIONS, hold).wait() == 0
    command(project, PACKAGE, "fit", "--run=whole", *OPTIONS, "--trainer.devices=2")
    assert sorted(folder.name for folder in (project / "runs").iterdir()) == ["job-7", "whole"]
    assert differences(project / "runs" / "whole", project / "runs" / "job-7") == []


def test_a_job_that_fails_is_not_requeued(project):
    assert start(project, "-c", "configs/none.yaml").wait() == 2
    assert not (project / "scontrol.txt").exists()
