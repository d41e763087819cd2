"""Several processes that train together: the choices of rank 0 reach the others."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import UserError

# Lightning starts the processes of the other devices with the same command; this variable tells them the run's folder.
FOLDER_VARIABLE = "LIGHTNING_RUN_FOLDER"
_REFUSED = "refused:"


def choice_of_rank_0(question: str, choose: Callable[[], str]) -> str:
    """Let rank 0 answer a question, different in each call, such as for a run's folder; return its text everywhere."""
    if _world() is None:
        if launched_by_rank_0():
            return os.environ[FOLDER_VARIABLE]
        chosen = choose()
        if chosen:
            os.environ[FOLDER_VARIABLE] = chosen  # Lightning's launcher hands the environment on
        return chosen
    rank, store = _world()
    key = f"{__package__}/{question}"
    if rank == 0:
        try:
            store.set(key, choose())
        except UserError as error:
            store.set(key, f"{_REFUSED}{error}")
            raise
    text = store.get(key).decode()  # waits for rank 0
    if text.startswith(_REFUSED):
        raise UserError(text.removeprefix(_REFUSED))
    return text


def gather(value: Any, world_size: int) -> list[Any]:
    """Return the value of each process of a training, by rank; every process has to call this."""
    values = [value] * world_size
    if world_size > 1:
        import torch

        torch.distributed.all_gather_object(values, value)
    return values


def by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched_by_rank_0() -> bool:
    """Return whether Lightning's launcher in another process started this one."""
    return not by_torchrun() and os.environ.get("LOCAL_RANK", "0") != "0" and FOLDER_VARIABLE in os.environ


@cache
def _world() -> Any:
    """Return this process's rank and a store of the processes that torchrun or srun started; None if neither did."""
    if by_torchrun():
        rank = int(os.environ["RANK"])
        host = os.environ["MASTER_ADDR"]
        port = int(os.environ["MASTER_PORT"])
        has_server = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        rank = slurm.global_rank()
        host = slurm.main_address
        port = slurm.main_port
        has_server = False
    else:
        return None
    from torch.distributed import TCPStore

    # torch makes its own store at this address later, and then shares the server
    is_server = rank == 0 and not has_server
    return rank, TCPStore(host, port, is_master=is_server, wait_for_workers=False, multi_tenant=is_server)
