import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning_runs.cli import batch_size, messages
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


class LargeOnCpu(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory")


class LargeInTest(Toy):
    def test_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--data.batch_size=24"],
            "memory ran out with --data.batch_size 24. Take --data.batch_size 12"
            " --trainer.accumulate_grad_batches 2, which keeps the 24 items of a step.",
        ),
        (
            ["--data.batch_size=45", "--trainer.accumulate_grad_batches=2"],
            "memory ran out with --data.batch_size 45. Take --data.batch_size 15"
            " --trainer.accumulate_grad_batches 6, which keeps the 90 items of a step.",
        ),
    ],
)
def test_options_that_need_less_memory_are_named_and_no_run_is_left(options, text, run, capsys) -> None:
    assert run("fit", "--run", "a", *options, module=Large) == 1
    assert capsys.readouterr().err == f"error: {text}\n"
    assert not Path("runs/a").exists()


def test_one_item_that_is_too_large_is_told(run, capsys) -> None:
    assert run("fit", "--data.batch_size=1", module=LargeOnCpu) == 1
    assert "memory ran out with --data.batch_size 1. Take a smaller model" in capsys.readouterr().err


def test_a_test_that_is_too_large_is_told_without_an_option_of_the_training(run, have, capsys) -> None:
    have("finished", "a")
    assert run("test", "--run", "a", module=LargeInTest) == 1
    assert capsys.readouterr().err == "error: memory ran out with --data.batch_size 8. Take --data.batch_size 4.\n"
    assert run("fit", "--run", "b", module=LargeInTest) == 1
    assert record("b")["status"] == "failed"


class OwnLoaders(LargeOnCpu):
    def train_dataloader(self) -> DataLoader:
        return ToyData().train_dataloader()


def test_where_the_size_is_no_option_it_is_told_all_the_same(run, capsys) -> None:
    assert run("fit", module=OwnLoaders, data=None) == 1
    assert "memory ran out. Have the loaders make batches of half the size, and keep a" in capsys.readouterr().err


@pytest.fixture
def own_memory(monkeypatch) -> None:
    monkeypatch.setattr(batch_size, "_has_limit", lambda device: True)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--data.batch_size", "auto"])


@pytest.mark.parametrize("auto", [["--data.batch_size", "auto"], ["--data.batch_size=auto"]])
@pytest.mark.usefixtures("own_memory")
def test_the_largest_size_that_fits_is_found_and_recorded(auto, run, capsys) -> None:
    assert run("fit", "--run", "a", *auto, module=Large) == 0
    assert "--data.batch_size 16 is the largest power of two that fits." in capsys.readouterr().out
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
def test_where_no_size_is_found_the_cause_is_told(run, capsys) -> None:
    assert run("fit", "--data.batch_size=auto", module=TooLarge) == 1
    assert "error: --data.batch_size auto is refused: not even batches of 2 fit." in capsys.readouterr().err
    assert run("fit", "--data.batch_size=auto", "--resume") == 1
    assert "it is found for a new run that one process begins. Give the number" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a mistake in the code"):
        run("fit", "--data.batch_size=auto", module=Broken)
    assert not Path("runs").exists()


def test_on_a_cpu_no_size_is_searched(run, capsys) -> None:
    assert run("fit", "--data.batch_size=auto") == 1
    assert capsys.readouterr().err == (
        "error: --data.batch_size auto is refused: a cpu takes memory from the whole machine, which comes to a halt"
        " before a batch is too large. Give a number.\n"
    )


def test_lightning_s_own_finder_of_a_size_that_is_larger_than_the_data_names_what_ends_it_sooner() -> None:
    code = compile("raise error", "pytorch_lightning/tuner/batch_size_scaling.py", "exec")
    with pytest.raises(UserError) as raised:
        exec(code, {"error": UserError("data.batch_size is 64.")})
    assert messages.message(raised.value) == (
        "data.batch_size is 64. BatchSizeFinder came to this size: end it sooner by its max_trials, or give"
        " --data.batch_size auto."
    )
    assert messages.message(UserError("data.batch_size is 64.")) == "data.batch_size is 64."


def test_lightning_s_own_finder_of_a_rate_is_refused(run, capsys) -> None:
    assert run("fit", "--trainer.callbacks+=pytorch_lightning.callbacks.LearningRateFinder") == 1
    assert "Train without it" in capsys.readouterr().err
