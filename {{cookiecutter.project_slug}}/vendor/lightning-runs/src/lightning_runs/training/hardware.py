"""What the hardware allows: combinations of trainer options that can't work are refused before anything starts."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.plugins.environments import SLURMEnvironment

from ..errors import UserError
from ..runs.ranks import by_torchrun

# Device, precisions that can't work, the reason, and what to choose instead.
REFUSED = (
    ("cpu", ("16-mixed", "16-true"), "a CPU has no 16-bit float training", "bf16-mixed or 32-true"),
    ("mps", ("64-true",), "an Apple GPU has no 64-bit floats", "32-true"),
)


def check(trainer: Trainer | Mapping[str, Any]) -> str:
    """Return the device of a Trainer, or of one with these options: ``cpu``, ``gpu``, ``mps`` or another.

    Raises:
        UserError: It is not there, or can't carry out the options, or the training would wait for processes forever.
    """
    if isinstance(trainer, Trainer):
        device = trainer.strategy.root_device.type
        trainer = {"precision": trainer.precision, "num_nodes": trainer.num_nodes, "accelerator": device}
    device = _device(str(trainer["accelerator"]))
    precision = str(trainer["precision"])
    for refused, precisions, reason, fix in REFUSED:
        if refused == device and precision in precisions:
            raise UserError(f"trainer.precision is {precision}, and the device is {device}: {reason}. Choose {fix}.")
    devices = str(trainer.get("devices"))
    if device == "cpu" and devices.isdigit() and int(devices) > 4 * (os.cpu_count() or 1):
        raise UserError(f"trainer.devices is {devices}; on a CPU it is the number of processes. Choose fewer.")
    _check_launcher(int(trainer["num_nodes"]))
    return device


def _check_launcher(num_nodes: int) -> None:
    started_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if not by_torchrun() and SLURMEnvironment.detect():
        tasks = int(os.environ["SLURM_NTASKS"])
        if tasks > started_tasks:
            text = f"SLURM has {tasks} tasks for this job, but started {started_tasks}, which would wait forever."
            raise UserError(f"{text} Put srun before the command, as scripts/train.sbatch does, or ask for one task.")
    if num_nodes > 1 and not by_torchrun() and started_tasks == 1:
        text = f"trainer.num_nodes is {num_nodes}, but only this machine runs the program, which would wait forever."
        raise UserError(f"{text} Start it with torchrun or srun on each machine.")


def _device(accelerator: str) -> str:
    """Return the device of an accelerator, ``cpu``, ``gpu`` or ``mps``; another accelerator is its own device."""
    cuda = CUDAAccelerator.is_available()  # Lightning's probe leaves CUDA uninitialised, so processes can be forked
    mps = MPSAccelerator.is_available()
    if not cuda:
        # else every step of an optimizer asks the NVIDIA driver for GPUs again: 150 µs without one
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        text = f"trainer.accelerator is {accelerator}, but torch {torch.__version__} finds no such device."
        raise UserError(f"{text} Choose --trainer.accelerator auto (the best device here) or cpu.")
    found = "gpu" if cuda else "mps" if mps else "cpu"
    return {"auto": found, "gpu": found, "cuda": "gpu"}.get(accelerator, accelerator)
