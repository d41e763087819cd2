from typing import Any

import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.training import hardware


def check(monkeypatch: pytest.MonkeyPatch, device: str, **options: Any) -> str:
    """Check trainer options on a machine that has this device alone."""
    monkeypatch.setattr(hardware.CUDAAccelerator, "is_available", lambda: device == "gpu")
    monkeypatch.setattr(hardware.MPSAccelerator, "is_available", lambda: device == "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 3)
    usual = {"accelerator": "auto", "strategy": "auto", "precision": "32-true", "devices": "auto", "num_nodes": 1}
    return hardware.check(usual | {"sync_batchnorm": False} | options)


@pytest.mark.parametrize("device", ["cpu", "gpu", "mps"])
def test_the_device_that_is_there_is_chosen(device, monkeypatch) -> None:
    assert check(monkeypatch, device) == device


@pytest.mark.parametrize(
    ("device", "options", "text"),
    [
        ("cpu", {"precision": "16-mixed"}, "trainer.precision is 16-mixed, and the device is cpu"),
        ("cpu", {"strategy": "fsdp"}, "trainer.strategy is fsdp, and the device is cpu"),
        ("mps", {"strategy": "ddp"}, "trainer.strategy is ddp, and the device is mps"),
        ("mps", {"precision": "64-true"}, "trainer.precision is 64-true, and the device is mps"),
        ("mps", {"devices": 2}, "trainer.devices is 2, and the device is mps: here it must be 1"),
        ("gpu", {"strategy": "fsdp", "precision": "64-true"}, "trainer.precision is 64-true, and the device is gpu"),
        ("gpu", {"devices": 3}, "trainer.devices is 3, and the device is gpu: here it must be 1 to 2"),
        ("cpu", {"accelerator": "gpu"}, "trainer.accelerator is gpu, but no such device was found"),
        ("cpu", {"devices": 0}, "trainer.devices is 0, and the device is cpu: here it must be 1 to 12."),
        ("cpu", {"devices": 13}, "trainer.devices is 13, and the device is cpu: here it must be 1 to 12."),
        ("cpu", {"sync_batchnorm": True}, "trainer.sync_batchnorm is True, and the device is cpu"),
        ("cpu", {"num_nodes": 4}, "trainer.num_nodes is 4, but nothing started this process on several machines"),
    ],
)
def test_what_the_device_cannot_do_is_refused(device, options, text, monkeypatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "GROUP_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as error:
        check(monkeypatch, device, **options)
    assert text in str(error.value)


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 1), ("200000 100000", 2), ("max 100000", 4)])
def test_a_container_s_quota_bounds_the_cores(quota, expected, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(hardware, "QUOTA", tmp_path / "cpu.max")
    hardware.QUOTA.write_text(f"{quota}\n", encoding="utf-8")

    assert hardware.cores() == expected


def test_torch_computes_with_no_more_threads_than_cores_and_is_left_as_it_was(monkeypatch, capsys) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    try:
        with hardware.as_many_threads_as_cores():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert capsys.readouterr().out == "Threads: 2 and not 3, for this process may use no more cores.\n"
