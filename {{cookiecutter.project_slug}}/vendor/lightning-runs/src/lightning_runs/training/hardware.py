"""What the hardware allows: combinations of trainer options that can't work are refused before anything starts."""

from __future__ import annotations

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

# Device, option (of one strategy alone), values that can't work, why, and what to choose instead.
REFUSED = (
    ("cpu", "precision", ("16-mixed", "16-true"), "a CPU has no 16-bit float training", "32-true"),
    ("cpu", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    ("cpu", "sync_batchnorm", ("True",), "it needs GPUs", "false"),
    ("mps", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    ("mps", "strategy", ("ddp",), "an Apple GPU is always a single device", "auto"),
    ("mps", "precision", ("64-true",), "an Apple GPU has no 64-bit floats", "32-true"),
    ("gpu", "precision with fsdp", ("64-true",), "FSDP has no 64-bit plugin in Lightning", "32-true"),
)

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds that a container may compute, in each so many


def check(trainer: Mapping[str, Any]) -> str:
    """Refuse trainer options that the device can't carry out, and say which device will be used.

    Args:
        trainer: The trainer options.

    Returns:
        ``cpu``, ``gpu`` or ``mps``, or the name of another accelerator.

    Raises:
        UserError: The accelerator is not there, there are fewer devices than asked for, the device can't do what is
            asked, or the other processes that are needed were not started.
    """
    device, devices = _device(str(trainer["accelerator"])), str(trainer["devices"])
    for refused, option, values, reason, fix in REFUSED:
        option, _, strategy = option.partition(" with ")
        value = str(trainer[option]).removesuffix("_find_unused_parameters_true")
        if refused == device and value in values and strategy in ("", str(trainer["strategy"])):
            raise UserError(
                f"trainer.{option} is {trainer[option]}, and the device is {device}: {reason}."
                f" Choose --trainer.{option} {fix}."
            )
    # on a CPU devices are processes, and a few more than cores can be of use to try something out
    most = {"cpu": 4 * (os.cpu_count() or 1), "mps": 1}.get(device) or torch.cuda.device_count()
    if device in ("cpu", "gpu", "mps") and devices.isdigit() and not 1 <= int(devices) <= most:
        raise UserError(
            f"trainer.devices is {devices}, and the device is {device}: here it must be 1 to {most}."
            f" Choose --trainer.devices {most} or fewer."
        )
    _check_launcher(int(trainer["num_nodes"]))
    return device


def cores() -> int:
    """CPU cores that this process may use: those of its affinity mask, and no more than its cgroup's quota."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is no such file, or its quota is "max"
        quota, period = QUOTA.read_text(encoding="utf-8").split()
        found = min(found, max(1, int(quota) // int(period)))
    return found


@contextmanager
def as_many_threads_as_cores() -> Iterator[None]:
    """Have torch compute with no more threads than there are cores: a container sees all those of its machine."""
    before, most = torch.get_num_threads(), cores()
    if before > most:
        torch.set_num_threads(most)
        print(f"Threads: {most} and not {before}, for this process may use no more cores.", flush=True)
    try:
        yield
    finally:
        if before > most:
            torch.set_num_threads(before)


def _check_launcher(num_nodes: int) -> None:
    torchrun, by_srun = by_torchrun(), int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if not torchrun and SLURMEnvironment.detect() and (tasks := int(os.environ["SLURM_NTASKS"])) > by_srun:
        raise UserError(
            f"SLURM has {tasks} tasks for this job, but {by_srun} was started: it would wait for the others for ever."
            " Put srun before the command, as scripts/train.sbatch does, or ask for one task."
        )
    if num_nodes > 1 and not torchrun and by_srun == 1:
        raise UserError(
            f"trainer.num_nodes is {num_nodes}, but nothing started this process on several machines;"
            " it would wait for the others for ever. Start it by torchrun or srun on each machine."
        )
    if (
        os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
        and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    ):
        raise UserError(
            f"torchrun was given --max-restarts {os.environ['TORCHELASTIC_MAX_RESTARTS']}, but what it restarts would"
            " find the addresses of the processes before. Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun."
        )


def _device(accelerator: str) -> str:
    # Asked once with the probe that Lightning prefers, which leaves CUDA uninitialised (it may have to fork).
    cuda, mps = CUDAAccelerator.is_available(), MPSAccelerator.is_available()
    if not cuda:
        # Else every step of an optimizer asks the NVIDIA driver for GPUs again: 150 µs where there is none.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        raise UserError(
            f"trainer.accelerator is {accelerator}, but no such device was found that this torch ({torch.__version__})"
            " can use. Choose --trainer.accelerator auto (what is there) or cpu."
        )
    found = "gpu" if cuda else "mps" if mps else "cpu"
    return {"auto": found, "gpu": found, "cuda": "gpu"}.get(accelerator, accelerator)
