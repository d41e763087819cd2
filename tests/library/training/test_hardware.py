"""The trainer options that a device can't carry out."""

from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.training import hardware


def check(monkeypatch: pytest.MonkeyPatch, device: str, **options: Any) -> str:
    """Check trainer options on a machine with this device alone."""
    monkeypatch.setattr(hardware.CUDAAccelerator, "is_available", lambda: device == "gpu")
    monkeypatch.setattr(hardware.MPSAccelerator, "is_available", lambda: device == "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "GROUP_RANK", "NODE_RANK", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.delenv(name, raising=False)
    usual = {"accelerator": "auto", "precision": "32-true", "num_nodes": 1}
    return hardware.check(usual | options)


@pytest.mark.parametrize("device", ["cpu", "gpu", "mps"])
def test_the_device_of_the_machine_is_chosen(device, monkeypatch) -> None:
    assert check(monkeypatch, device) == device


REFUSED = [(device, {"precision": value}, f"{fix}.") for device, values, _, fix in hardware.REFUSED for value in values]
REFUSED += [("cpu", {"devices": 10**6}, "fewer")]


@pytest.mark.parametrize(("device", "options", "text"), REFUSED)
def test_a_refusal_names_the_option_and_the_fix(device, options, text, monkeypatch) -> None:
    with pytest.raises(UserError) as error:
        check(monkeypatch, device, **options)
    option, value = next(iter(options.items()))
    assert str(error.value).startswith(f"trainer.{option} is {value}")
    assert text in str(error.value)


def test_one_of_two_tasks_of_slurm_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(UserError, match="SLURM has 2 tasks"):
        hardware._check_launcher(num_nodes=1)
