"""The trainer options that a device can't carry out, and the cores of a container."""

from typing import Any

import pytest
import torch
from combinations import PRE
from lightning_runs.errors import UserError
from lightning_runs.training import hardware


def check(monkeypatch: pytest.MonkeyPatch, device: str, **options: Any) -> str:
    """Check trainer options on a machine with this device alone."""
    monkeypatch.setattr(hardware.CUDAAccelerator, "is_available", lambda: device == "gpu")
    monkeypatch.setattr(hardware.MPSAccelerator, "is_available", lambda: device == "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 3)
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "GROUP_RANK", "NODE_RANK", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.delenv(name, raising=False)
    usual = {"accelerator": "auto", "strategy": "auto", "precision": "32-true", "devices": "auto", "num_nodes": 1}
    return hardware.check(usual | {"sync_batchnorm": False} | options)


@pytest.mark.parametrize("device", ["cpu", "gpu", "mps"])
def test_the_device_of_the_machine_is_chosen(device, monkeypatch) -> None:
    assert check(monkeypatch, device) == device


REFUSED = [
    (device, {option.split()[0]: value} | ({"strategy": option.split()[2]} if " with " in option else {}), f"{fix}.")
    for device, option, values, _, fix in hardware.REFUSED
    for value in values
]
LIMITS = [
    ("mps", {"devices": 2}, "must be 1 to 1"),
    ("gpu", {"devices": 3}, "must be 1 to 2"),
    ("cpu", {"devices": 0}, "must be 1 to 12"),
    ("cpu", {"devices": 13}, "must be 1 to 12"),
    ("cpu", {"accelerator": "gpu"}, "--trainer.accelerator auto"),
    ("cpu", {"num_nodes": 4}, "torchrun or srun"),
]


@pytest.mark.parametrize(("device", "options", "text"), [*REFUSED, *LIMITS])
def test_a_refusal_names_the_option_and_the_fix(device, options, text, monkeypatch) -> None:
    with pytest.raises(UserError) as error:
        check(monkeypatch, device, **options)
    option, value = next(iter(options.items()))
    assert str(error.value).startswith(f"trainer.{option} is {value}")
    assert text in str(error.value)


@pytest.mark.parametrize(("device", "devices"), [("gpu", 2), ("cpu", 12), ("mps", 1)])
def test_the_largest_number_of_devices_is_accepted(device, devices, monkeypatch) -> None:
    assert check(monkeypatch, device, devices=devices) == device


def test_a_launcher_s_mistakes_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(hardware.SLURMEnvironment, "detect", lambda: True)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(UserError, match="4 tasks"):
        hardware._check_launcher(1)
    monkeypatch.setattr(hardware.SLURMEnvironment, "detect", lambda: False)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(UserError, match="--max-restarts 3"):
        hardware._check_launcher(1)


def test_the_hook_refuses_the_same_answers() -> None:
    at_start = {
        (device, option.split()[0], value) for device, option, values, *_ in hardware.REFUSED for value in values
    }
    asked = set()
    for fields, _, _ in PRE.REFUSED:
        option = next((name for name in ("precision", "strategy") if name in fields), None)
        if option and "torch_build" not in fields:  # which decides whether a GPU is found
            devices = set(fields.get("accelerator", ("gpu",))) - {"auto"}
            asked |= {(device, option, value) for device in devices for value in fields[option]}
    assert asked == {refused for refused in at_start if refused[1] != "sync_batchnorm"}  # no question


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 1), ("200000 100000", 2), ("max 100000", 4)])
def test_a_container_s_quota_bounds_the_cores(quota, expected, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(hardware, "QUOTA", tmp_path / "cpu.max")
    hardware.QUOTA.write_text(f"{quota}\n", encoding="utf-8")
    assert hardware.cores() == expected


def test_threads_are_limited_to_cores_and_restored(monkeypatch, capsys) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    try:
        with hardware.limited_threads():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert capsys.readouterr().out.startswith("Threads: 2 ")
