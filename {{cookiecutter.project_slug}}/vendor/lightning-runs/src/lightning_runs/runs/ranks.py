"""Several processes that train together: what rank 0 chooses reaches the others."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

# How a run's folder reaches the processes that Lightning starts for the other devices: they run `main` again.
FOLDER_VARIABLE = "LIGHTNING_RUN_FOLDER"
_REFUSED = "refused:"


def shared(question: str, choose: Callable[[], str]) -> str:
    """Let rank 0 choose a text, such as a run's folder, and give the other processes of the training its choice.

    Args:
        question: A word for what is chosen, another one for each call.
        choose: Makes the choice.

    Raises:
        UserError: Rank 0 could not choose; every process says why.
    """
    if world := _launched_world():
        rank, store = world
        key = f"{__package__}/{question}"
        if rank == 0:
            try:
                store.set(key, choose())
            except UserError as error:
                store.set(key, f"{_REFUSED}{error}")
                raise
        while not store.check([key]):  # not `store.wait`, in which no signal would be handled
            time.sleep(0.05)
        text = store.get(key).decode()
        if text.startswith(_REFUSED):
            raise UserError(text.removeprefix(_REFUSED))
        return text
    if launched_by_rank_0():
        return os.environ[FOLDER_VARIABLE]
    chosen = choose()
    if chosen:
        os.environ[FOLDER_VARIABLE] = chosen  # Lightning's launcher hands the environment on
    return chosen


def compare_positions(position: str, checkpoint: object) -> None:
    """Refuse to go on from another position than rank 0 does, where the processes may run on several machines.

    Raises:
        UserError: This process reads another checkpoint.
    """
    if _launched_world() is not None and shared("position", lambda: position) != position:
        raise UserError(
            f"this process reads {checkpoint or 'no checkpoint'} and would go on from {position}, but rank 0 from"
            " somewhere else: the machines do not see the same files. Put the project on a file system that they share,"
            " or start the command again if they do."
        )


def gathered(value: Any, world_size: int) -> list[Any]:
    """What each process of a training gives, by their ranks; every process has to call this."""
    values = [value] * world_size
    if world_size > 1:
        import torch

        torch.distributed.all_gather_object(values, value)
    return values


def launched_by_rank_0() -> bool:
    """Whether Lightning's launcher in another process started this one."""
    return not by_torchrun() and os.environ.get("LOCAL_RANK", "0") != "0" and FOLDER_VARIABLE in os.environ


@cache
def _launched_world() -> tuple[int, TCPStore] | None:
    """This process's rank, and a store that all processes share which torchrun or srun has started."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment
    from torch.distributed import TCPStore

    if by_torchrun():
        rank, host, port = int(os.environ["RANK"]), os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        slurm = SLURMEnvironment(auto_requeue=False)
        rank, host, port, hosted = slurm.global_rank(), slurm.main_address, slurm.main_port, False
    else:
        return None
    if rank == 0 and not hosted:  # torch makes its own store at this address later, and then shares the server
        return rank, TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True)
    while True:  # TCPStore would wait too, but handle no signal
        try:
            socket.create_connection((host, port), timeout=1).close()
            return rank, TCPStore(host, port, is_master=False)
        except OSError:
            time.sleep(0.1)


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
