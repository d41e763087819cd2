"""What the hardware allows: combinations of trainer options that can't work are refused before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.accelerators import AcceleratorRegistry, CUDAAccelerator, MPSAccelerator
from pytorch_lightning.plugins.environments import SLURMEnvironment

from .errors import UserError


@dataclass(frozen=True)
class Refusal:
    """A combination that can't work: the device and the value, why, and what to do instead."""

    device: str
    option: str
    values: tuple[str, ...]
    reason: str
    fix: str


REFUSED = (
    Refusal("cpu", "precision", ("16-mixed", "16-true"), "a CPU has no 16-bit float training", "bf16-mixed"),
    Refusal("cpu", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    Refusal("mps", "strategy", ("fsdp",), "FSDP needs NVIDIA GPUs", "auto"),
    Refusal("mps", "strategy", ("ddp",), "an Apple GPU is always a single device", "auto"),
    Refusal("mps", "precision", ("64-true",), "an Apple GPU has no 64-bit floats", "32-true"),
    Refusal("gpu", "precision with fsdp", ("64-true",), "FSDP has no 64-bit plugin in Lightning", "32-true"),
)


def check(trainer: Mapping[str, Any], fused_optimizer: bool) -> str:
    """Refuse trainer options that the device can't carry out, and say which device will be used.

    Args:
        trainer: The trainer options.
        fused_optimizer: Whether the optimizer was asked to be a fused one.

    Returns:
        ``cpu``, ``gpu`` or ``mps``; of another accelerator only whether it is there is checked.

    Raises:
        UserError: The accelerator is not there, there are fewer devices than asked for, options contradict one
            another, or the other processes that they need were not started.
    """
    strategy = str(trainer["strategy"])
    device = _device(str(trainer["accelerator"]))
    for refused in REFUSED:
        option = refused.option.split()[0]
        if (
            refused.device == device
            and str(trainer[option]).removesuffix("_find_unused_parameters_true") in refused.values
            and (option == refused.option or strategy == refused.option.split()[-1])
        ):
            raise UserError(
                f"trainer.{option} is {trainer[option]}, and the device is {device}: {refused.reason}."
                f" Choose --trainer.{option} {refused.fix}."
            )
    _check_devices(device, trainer["devices"])
    _check_clipping(trainer, fused_optimizer)
    if trainer["sync_batchnorm"] and device == "cpu":
        raise UserError("trainer.sync_batchnorm is true, and the device is cpu: it needs GPUs. Leave it out.")
    _check_launcher(int(trainer["num_nodes"]))
    return device


def _check_clipping(trainer: Mapping[str, Any], fused_optimizer: bool) -> None:
    clip, strategy, precision = trainer["gradient_clip_val"], str(trainer["strategy"]), str(trainer["precision"])
    if clip and precision == "16-mixed" and fused_optimizer:
        raise UserError(
            f"trainer.gradient_clip_val is {clip}: with precision 16-mixed a fused optimizer can't clip gradients."
            " Set its option fused to false, or choose --trainer.precision bf16-mixed."
        )
    if clip and strategy == "fsdp" and trainer["gradient_clip_algorithm"] != "value":
        raise UserError(
            f"trainer.gradient_clip_val is {clip}: FSDP can't clip by the norm of sharded gradients."
            " Add --trainer.gradient_clip_algorithm value, or choose --trainer.strategy ddp."
        )


def by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


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
    if accelerator == "auto":
        return "gpu" if cuda else "mps" if mps else "cpu"
    if accelerator in ("gpu", "cuda", "mps"):
        wanted = {"gpu": cuda or mps, "cuda": cuda, "mps": mps}[accelerator]
        if not wanted:
            kind = {"gpu": "no GPU", "cuda": "no NVIDIA GPU", "mps": "no Apple GPU"}[accelerator]
            raise UserError(
                f"trainer.accelerator is {accelerator}, but {kind} was found that this torch ({torch.__version__}) can"
                " use. Choose --trainer.accelerator auto (what is there) or cpu."
            )
        return "mps" if accelerator == "mps" or not cuda else "gpu"
    if accelerator.isidentifier():  # else it is a class of yours
        known = accelerator in AcceleratorRegistry.available_accelerators()
        if not known or not AcceleratorRegistry[accelerator]["accelerator"].is_available():
            raise UserError(
                f"trainer.accelerator is {accelerator}, which was not found here. Choose auto (what is there), cpu,"
                " gpu or mps."
            )
    return accelerator


def _check_devices(device: str, devices: Any) -> None:
    if devices == "auto":
        return
    if device == "mps" and devices not in (1, "1", [0]):
        raise UserError(
            f"trainer.devices is {devices}, but an Apple GPU is a single device. Choose --trainer.devices 1."
        )
    if device == "cpu":
        if not str(devices).isdigit() or int(devices) < 1:
            raise UserError(
                f"trainer.devices is {devices}; on a CPU it is the number of processes, 1 or more, or auto (1 process)."
            )
        most = 4 * (os.cpu_count() or 1)  # a few more than cores can be of use to try something out
        if int(devices) > most:
            raise UserError(
                f"trainer.devices is {devices}; on a CPU it is the number of processes, and here are"
                f" {os.cpu_count()} cores. Choose 1 to {most}."
            )
        return
    count = torch.cuda.device_count() if device == "gpu" else None
    if count is not None and str(devices).isdigit() and not 1 <= int(devices) <= count:
        there, fewer = (f"there are {count} GPUs", " or fewer") if count > 1 else ("there is 1 GPU", "")
        raise UserError(f"trainer.devices is {devices}, but {there}. Choose --trainer.devices {count}{fewer}.")
