"""What the hardware allows: combinations of trainer options that can't work are refused before anything starts."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.plugins.environments import SLURMEnvironment

from ..errors import UserError
from ..runs.ranks import by_torchrun

# Device, option (with one strategy alone), values that can't work, the reason, and what to choose instead.
REFUSED = (
    ("cpu", "precision", ("16-mixed", "16-true"), "a CPU has no 16-bit float training", "bf16-mixed or 32-true"),
    ("cpu", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    ("cpu", "sync_batchnorm", ("True",), "it needs GPUs", "false"),
    ("mps", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    ("mps", "strategy", ("ddp",), "an Apple GPU is always a single device", "auto"),
    ("mps", "precision", ("64-true",), "an Apple GPU has no 64-bit floats", "32-true"),
    ("gpu", "precision with fsdp", ("64-true",), "FSDP has no 64-bit plugin in Lightning", "32-true"),
)

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # a container's CPU time and the period that it is for, in microseconds


def check(trainer: Mapping[str, Any]) -> str:
    """Refuse trainer options that the device can't carry out, and say which device will be used.

    Args:
        trainer: The trainer options.

    Returns:
        ``cpu``, ``gpu`` or ``mps``, or the name of another accelerator.
    """
    device = _device(str(trainer["accelerator"]))
    devices = str(trainer["devices"])
    for refused, option, values, reason, fix in REFUSED:
        option, _, strategy = option.partition(" with ")
        value = str(trainer[option]).removesuffix("_find_unused_parameters_true")
        if refused == device and value in values and strategy in ("", str(trainer["strategy"])):
            raise UserError(
                f"trainer.{option} is {trainer[option]}, and the device is {device}: {reason}."
                f" Choose --trainer.{option} {fix}."
            )
    # on a CPU devices are processes, and a few more than cores are useful to try something out
    limit = {"cpu": 4 * (os.cpu_count() or 1), "mps": 1}.get(device) or torch.cuda.device_count()
    if device in ("cpu", "gpu", "mps") and devices.isdigit() and not 1 <= int(devices) <= limit:
        raise UserError(
            f"trainer.devices is {devices}, and the device is {device}: here it must be 1 to {limit}."
            f" Choose --trainer.devices {limit} or fewer."
        )
    _check_launcher(int(trainer["num_nodes"]))
    return device


def cores() -> int:
    """Return how many CPU cores this process may use, by its affinity mask and its cgroup's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is no such file, or its quota is "max"
        quota, period = map(int, QUOTA.read_text(encoding="utf-8").split())
        count = min(count, max(1, quota // period))
    return count


@contextmanager
def limited_threads() -> Iterator[None]:
    """Have torch use no more threads than this process has cores: in a container torch counts all of the machine's."""
    before = torch.get_num_threads()
    limit = cores()
    if before > limit:
        torch.set_num_threads(limit)
        print(f"Threads: {limit} instead of {before}, because this process may use no more cores.", flush=True)
    try:
        yield
    finally:
        if before > limit:
            torch.set_num_threads(before)


def _check_launcher(num_nodes: int) -> None:
    """Refuse to wait forever for processes that nobody starts, or that can't find one another."""
    started_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if not by_torchrun() and SLURMEnvironment.detect():
        tasks = int(os.environ["SLURM_NTASKS"])
        if tasks > started_tasks:
            raise UserError(
                f"SLURM has {tasks} tasks for this job, but started {started_tasks}: it would wait forever for the"
                " others. Put srun before the command, as scripts/train.sbatch does, or ask for one task."
            )
    if num_nodes > 1 and not by_torchrun() and started_tasks == 1:
        raise UserError(
            f"trainer.num_nodes is {num_nodes}, but nothing started this process on several machines: it would wait"
            " forever for the others. Start it by torchrun or srun on each machine."
        )
    restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")
    if restarts != "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"torchrun was given --max-restarts {restarts}, but restarted processes would find the addresses of the"
            " earlier ones. Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun."
        )


def _device(accelerator: str) -> str:
    """Return the device of an accelerator, ``cpu``, ``gpu`` or ``mps``; another accelerator is its own device."""
    cuda = CUDAAccelerator.is_available()  # Lightning's probe leaves CUDA uninitialised, so processes can be forked
    mps = MPSAccelerator.is_available()
    if not cuda:
        # else every step of an optimizer asks the NVIDIA driver for GPUs again: 150 µs without one
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        raise UserError(
            f"trainer.accelerator is {accelerator}, but no such device was found that this torch ({torch.__version__})"
            " can use. Choose --trainer.accelerator auto (the best device here) or cpu."
        )
    found = "gpu" if cuda else "mps" if mps else "cpu"
    return {"auto": found, "gpu": found, "cuda": "gpu"}.get(accelerator, accelerator)
