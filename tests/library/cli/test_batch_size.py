from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning_runs.cli import arguments, batch_size, messages
from lightning_runs.errors import UserError
from torch.utils.data import DataLoader
from toy import Toy, ToyData
from written import record


class Large(Toy):
    """Needs more memory than there is for more than 16 items."""

    def step(self, batch: Any, split: str) -> torch.Tensor:
        if len(batch[0]) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().step(batch, split)


class LargeInTest(Toy):
    def test_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")


class OwnLoaders(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory")

    def train_dataloader(self) -> DataLoader:
        return ToyData().train_dataloader()


def test_a_test_that_is_too_large_names_no_training_option(run, have, capsys) -> None:
    have("finished", "a")
    assert run("test", "--run", "a", module=LargeInTest) == 1
    error = capsys.readouterr().err
    assert "--data.batch_size 4." in error
    assert "accumulate" not in error
    assert run("fit", "--run", "b", module=LargeInTest) == 1
    assert record("b")["status"] == "failed"


def test_memory_that_runs_out_is_named_without_a_size_option(run, capsys) -> None:
    assert run("fit", module=OwnLoaders, data=None) == 1
    assert "--trainer.accumulate_grad_batches 2" in capsys.readouterr().err


@pytest.fixture
def own_memory(monkeypatch) -> None:
    monkeypatch.setattr(batch_size, "has_own_memory", lambda device: True)


@pytest.mark.parametrize("auto", [["--data.batch_size", "auto"], ["--data.batch_size=auto"]])
@pytest.mark.usefixtures("own_memory")
def test_the_largest_size_that_fits_is_found_and_recorded(auto, run, capsys) -> None:
    assert run("fit", "--run", "a", *auto, module=Large) == 0
    assert "--data.batch_size 16" in capsys.readouterr().out
    assert yaml.safe_load(Path("runs/a/config.yaml").read_text())["data"]["batch_size"] == 16
    assert record("a")["command"] == "python -m toy_project fit --run a --data.batch_size=16"
    assert [path.name for path in Path("runs").iterdir()] == ["a"]


@pytest.mark.usefixtures("own_memory")
def test_more_than_all_items_is_no_size(run) -> None:
    assert run("fit", "--run", "a", "--data.batch_size=auto") == 0
    assert yaml.safe_load(Path("runs/a/config.yaml").read_text())["data"]["batch_size"] == 64  # of 48 items


class TooLarge(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")


class Broken(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise RuntimeError("a mistake in the code")


@pytest.mark.usefixtures("own_memory")
def test_if_no_size_is_found_the_cause_is_named(run, capsys) -> None:
    assert run("fit", "--data.batch_size=auto", module=TooLarge) == 1
    assert run("fit", "--data.batch_size=auto", "--resume") == 1
    assert capsys.readouterr().err.count("error: --data.batch_size auto is refused: ") == 2
    with pytest.raises(RuntimeError, match="a mistake in the code"):
        run("fit", "--data.batch_size=auto", module=Broken)
    assert not Path("runs").exists()


def test_processes_of_other_devices_get_the_size_that_was_found(monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "fit", "--run", "a", "--data.batch_size", "auto"])
    monkeypatch.setattr(batch_size, "_largest", lambda *args: 32)
    import sys

    with batch_size.found(Toy, ToyData, sys.argv[1:]) as given:
        assert given == sys.argv[1:] == ["fit", "--run", "a", "--data.batch_size=32"]
    assert sys.argv == ["train.py", "fit", "--run", "a", "--data.batch_size", "auto"]


def test_an_option_is_replaced_wherever_it_is_given() -> None:
    given = ["fit", "--a.b", "auto", "--c", "auto", "--a.b=auto", "--a.b=1", "auto"]
    expected = ["fit", "--a.b=2", "--c", "auto", "--a.b=2", "--a.b=1", "auto"]
    assert arguments.replace_option(given, "--a.b", "auto", "--a.b=2") == expected


def test_lightning_s_size_finder_names_its_limit() -> None:
    code = compile("raise error", "pytorch_lightning/tuner/batch_size_scaling.py", "exec")
    with pytest.raises(UserError) as raised:
        exec(code, {"error": UserError("data.batch_size is 64.")})
    assert "max_trials" in str(messages.message(raised.value))
    assert messages.message(UserError("data.batch_size is 64.")) == "data.batch_size is 64."
