"""Two processes that a launcher started agree on the choice of rank 0."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from lightning_runs.errors import UserError
from lightning_runs.runs import ranks


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(port: int, rank: int) -> dict[str, str]:
    return {"TORCHELASTIC_RUN_ID": "a", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def slurm(port: int, rank: int) -> dict[str, str]:
    names = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_NODELIST": "localhost",
    }
    return names | {"MASTER_PORT": str(port)}


def ask(environment: dict[str, str], answers: Any, end: Any) -> None:
    """In a process of its own: choose twice, and refuse the third time, if this is rank 0."""
    os.environ.update(environment)
    rank = environment.get("RANK", environment.get("SLURM_PROCID"))

    def refuse() -> str:
        raise UserError(f"refused by {rank}")

    try:
        found = [
            ranks.choice_of_rank_0(question, lambda name=question: f"{name} of {rank}")
            for question in ("first", "second")
        ]
        ranks.choice_of_rank_0("third", refuse)
    except UserError as error:
        answers.put((*found, str(error)))
    end.wait(60)  # rank 0 serves the store


@pytest.mark.parametrize("launcher", [torchrun, slurm])
def test_processes_of_a_launcher_have_the_choice_of_rank_0(launcher) -> None:
    context = multiprocessing.get_context("fork")
    port = free_port()
    answers = context.Queue()
    end = context.Barrier(2)
    processes = [context.Process(target=ask, args=(launcher(port, rank), answers, end), daemon=True) for rank in (1, 0)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert found == [("first of 0", "second of 0", "refused by 0")] * 2


def test_processes_of_lightning_have_the_folder_of_rank_0(monkeypatch) -> None:
    monkeypatch.delenv(ranks.FOLDER_VARIABLE, raising=False)
    assert not ranks.launched_by_rank_0()
    assert ranks.choice_of_rank_0("new", lambda: str(Path("a"))) == "a"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.launched_by_rank_0()
    assert ranks.choice_of_rank_0("new", lambda: "b") == "a"
    assert ranks.gather(3, 1) == [3]
