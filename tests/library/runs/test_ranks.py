"""Two processes that a launcher started agree on the choice of rank 0."""

import multiprocessing
import os
import socket
from typing import Any

import pytest
from lightning_runs.errors import UserError
from lightning_runs.runs import ranks

TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "127.0.0.1"}
SLURM = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "localhost"}


def ask(environment: dict[str, str], rank: int, answers: Any, end: Any) -> None:
    """In a process of its own: choose, and refuse the last time, if this is rank 0."""
    os.environ.update(environment | {"RANK": str(rank), "SLURM_PROCID": str(rank)})
    ranks._world.cache_clear()  # of the process that was forked

    def refuse() -> str:
        raise UserError(f"refused by {rank}")

    found = [ranks.choice_of_rank_0("first", lambda: f"chosen by {rank}")]
    try:
        ranks.choice_of_rank_0("last", refuse)
    except UserError as error:
        found.append(str(error))
    answers.put((rank, found))
    end.wait(60)  # rank 0 serves the store


@pytest.mark.parametrize("launcher", [TORCHRUN, SLURM])
def test_processes_of_a_launcher_have_the_choice_of_rank_0(launcher) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment = launcher | {"MASTER_PORT": str(free.getsockname()[1])}
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    end = context.Barrier(2)
    for rank in (1, 0):
        context.Process(target=ask, args=(environment, rank, answers, end), daemon=True).start()
    found = dict(answers.get(timeout=60) for _ in range(2))
    assert found == {rank: ["chosen by 0", "refused by 0"] for rank in (0, 1)}
