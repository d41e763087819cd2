"""A job of a real SLURM that is signalled and requeued, by the script that a project comes with."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm
from comparison import differences
from project import PACKAGE, ROOT, clean_environment, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(slurm.MISSING),
        reason=f"SLURM is not installed: no {', '.join(slurm.MISSING)} (apt-get install slurm-wlm munge)",
    ),
]
# Three epochs of twelve steps for two processes, which wait where they are told to.
OPTIONS = (
    *("--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.max_epochs=3", "--data.batch_size=16"),
    *("--trainer.limit_train_batches=12", "--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.callbacks+=hold.Hold"),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Slurm]:
    with slurm.started() as cluster:
        yield cluster


def prepared(project: Path) -> Path:
    """Fill in the script as a user does: the partition, and what is asked for."""
    shutil.copy(ROOT / "tests" / "own_classes" / "hold.py", project)
    script = project / "scripts" / "train.sbatch"
    text = script.read_text()
    for old, new in (
        ("--partition=PARTITION", "--partition=low"),
        ("--ntasks-per-node=1", "--ntasks-per-node=2"),
        ("--cpus-per-task=4", "--cpus-per-task=1"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    script.write_text(text)
    return project


def submit(cluster: slurm.Slurm, project: Path, *options: str, **environment: str) -> str:
    command = ("sbatch", "--parsable", "scripts/train.sbatch", *options)
    return cluster.run(*command, cwd=project, environment=clean_environment(project) | environment)


def wait(condition: Callable[[], bool], said: Callable[[], str], timeout: float = 240) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(0.1)


def ranks_that_import(job: str) -> int:
    """The number of a job's processes that have begun to import torch."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = set((process / "environ").read_bytes().split(b"\0"))
            is_rank = {f"SLURM_JOB_ID={job}".encode(), b"SLURM_STEP_ID=0"} <= environment
            count += is_rank and "libtorch" in (process / "maps").read_text()
        except OSError:  # it has ended
            continue
    return count


def test_a_job_that_is_requeued_thrice_ends_like_a_whole_one(bake_project, cluster):
    project = prepared(bake_project({"logger": "csv"}))
    job = submit(cluster, project, *OPTIONS, HOLD_AT="17,29")

    def said() -> str:
        return f"{cluster.job(job)}\n{(project / f'slurm-{job}.out').read_text()}"

    def held(step: int) -> bool:
        return all((project / f"held-{rank}-{step}").exists() for rank in range(2))

    # in the imports
    wait(lambda: ranks_that_import(job) == 2, said)
    cluster.run("scancel", "--signal=USR1", job)
    wait(lambda: cluster.job(job)["Restarts"] == "1", said)
    assert not (project / "runs").exists()

    # in mid-epoch by another job, which SLURM prefers
    wait(lambda: held(17), said)
    other = cluster.run("sbatch", "--parsable", "--partition=high", "--exclusive", "--wrap=true", cwd=project)
    wait(lambda: cluster.job(job)["Restarts"] == "2", said)
    assert cluster.job(other)["JobState"] == "COMPLETED" or cluster.wait(other, "COMPLETED")

    # in mid-epoch by the time limit
    wait(lambda: held(29), said)
    cluster.run("scontrol", "update", f"jobid={job}", "timelimit=2")
    wait(lambda: cluster.job(job)["Restarts"] == "3", said)
    cluster.run("scontrol", "update", f"jobid={job}", "timelimit=60")

    whole = command(project, PACKAGE, "fit", "--run=whole", *OPTIONS, "--trainer.devices=2")
    assert whole.returncode == 0, whole.stdout
    ended = cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), said()
    assert sorted(folder.name for folder in (project / "runs").iterdir()) == [f"job-{job}", "whole"]
    assert differences(project / "runs" / "whole", project / "runs" / f"job-{job}") == []
    assert "Traceback" not in said()
    assert "srun` command" not in said()


def test_a_job_that_fails_is_not_requeued(bake_project, cluster):
    project = prepared(bake_project({"logger": "csv"}))
    job = submit(cluster, project, "-c", "configs/none.yaml")  # the quickest way to fail

    ended = cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "2:0", "0")
    assert "configs/none.yaml" in (project / f"slurm-{job}.out").read_text()


def test_a_job_that_is_cancelled_is_not_requeued(bake_project, cluster):
    project = prepared(bake_project({"logger": "csv"}))
    job = submit(cluster, project, *OPTIONS)
    wait(lambda: ranks_that_import(job) == 2, lambda: str(cluster.job(job)))
    cluster.run("scancel", job)

    ended = cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")
