import re
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import runs
from lightning_runs.commands import fit
from lightning_runs.resume import signals
from lightning_runs.training import callbacks
from toy import Toy, ToyData
from written import assert_same, record, rows


def test_training_learns(run) -> None:
    assert run("fit", "--run", "a", "--trainer.max_epochs", "5") == 0
    losses = [float(row["train/loss"]) for row in rows("a") if row["train/loss"]]
    assert losses[-1] < 0.5 * losses[0]
    assert record("a", "test.json")["test/loss"] < losses[0]


def test_a_run_s_folder_has_all_that_is_known_of_it(have) -> None:
    have("finished", "a")
    folder = Path("runs/a")
    files = {path.name for path in folder.iterdir()} - {"report.html"}  # a command that may be deleted writes that one
    assert files == {".lock", "checkpoints", "config.yaml", "metrics.csv", "run.json", "test.json"}
    assert len(list((folder / "checkpoints").glob("*.ckpt"))) == 3  # the best one, the last one, and the one before it
    known = record("a")
    assert (known["status"], known["epochs"], known["device"], known["processes"]) == ("finished", 3, "cpu", 1)
    assert (known["metric"], known["mode"], known["debug"]) == ("val/loss", "min", None)
    assert (folder / "checkpoints" / known["best_checkpoint"]).is_file()
    assert known["best_score"] == min(float(row["val/loss"]) for row in rows("a") if row["val/loss"])
    assert known["train_items"] == 3 * 48
    assert {name for name in rows("a")[0] if "/" in name} == {"train/loss", "val/loss", "test/loss"}


def test_items_of_all_processes_are_counted(tmp_path, monkeypatch) -> None:
    clock = iter([0.0, 10.0, 40.0, 45.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    two = SimpleNamespace(reduce=lambda items, reduce_op: {"sum": 2 * items}[reduce_op])
    loaders = SimpleNamespace(_combined_loader=SimpleNamespace(flattened=[None, None]))
    trainer: Any = SimpleNamespace(strategy=two, is_global_zero=True, current_epoch=0, fit_loop=loaders)
    throughput = callbacks.Throughput(runs.Run(tmp_path))
    throughput.on_train_epoch_start(trainer, Toy())
    throughput.on_train_batch_end(trainer, Toy(), None, [[torch.zeros(8, 4)], torch.zeros(3)], 0)
    throughput.on_validation_start(trainer, Toy())
    throughput.on_validation_end(trainer, Toy())
    throughput.on_train_epoch_end(trainer, Toy())
    known = runs.Run(tmp_path).record
    assert (known["epochs"], known["train_items"], known["train_seconds"]) == (1, 2 * 11, 15.0)


def test_a_run_s_configuration_repeats_it(run, have) -> None:
    have("finished", "a")
    assert run("fit", "--run", "b", "-c", "runs/a/config.yaml") == 0
    assert_same("b", "a")
    assert run("fit", "--run", "c", "-c", "runs/a/config.yaml", "--seed_everything", "8") == 0
    assert rows("c") != rows("a")


class RandomTest(Toy):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", torch.rand(()))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", torch.rand(()))


def test_test_repeats_fit_where_evaluation_draws_random_numbers(run) -> None:
    assert run("fit", "--run", "a", module=RandomTest) == 0
    of_fit = record("a", "test.json")
    torch.rand(5)
    assert run("test", "--run", "a", "--seed_everything", "1", module=RandomTest) == 0
    assert record("a", "test.json")["test/loss"] == of_fit["test/loss"]


class TrainsOnly(pl.LightningModule):
    """A module with the least that Lightning asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    training_step = Toy.training_step
    step = Toy.step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class NoTestLoader(ToyData):
    test_dataloader = pl.LightningDataModule.test_dataloader


def test_a_step_that_is_missing_is_named(run, capsys) -> None:
    assert run("fit", "--run", "a", "--trainer.callbacks", "[]", module=TrainsOnly) == 0
    assert "TrainsOnly has no test_step" in capsys.readouterr().out
    for command, step in (("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step")):
        assert run(command, module=TrainsOnly) == 1
        assert f"TrainsOnly has no {step}" in capsys.readouterr().err


def test_a_loader_that_is_missing_is_named(run, have, capsys) -> None:
    have("finished", "a")
    assert run("test", data=NoTestLoader) == 1
    error = capsys.readouterr().err
    assert [word for word in ("test_dataloader", "NoTestLoader") if word not in error] == []


class Diverges(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (float("nan") if batch_idx == 3 else 1)


def test_a_loss_that_is_not_finite_ends_the_run(run, capsys) -> None:
    assert run("fit", "--run", "a", module=Diverges) == 1
    assert "step 4 (epoch 0, batch 3)" in capsys.readouterr().err
    assert record("a")["status"] == "failed"


class Broken(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise ValueError("a mistake in the code")


class Large(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_memory_that_runs_out_names_the_options_that_help(run, capsys) -> None:
    assert run("fit", "--run", "a", module=Large) == 1
    error = capsys.readouterr().err
    assert [word for word in ("--data.batch_size", "--trainer.accumulate_grad_batches") if word not in error] == []


class Exits(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise SystemExit


class NotFinite(Toy):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", float("nan") if self.current_epoch else 1.0)


class Required(Toy):
    def __init__(self, width: int, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.layer = torch.nn.Linear(4, width)


def test_an_exit_in_the_code_is_a_failure(run, capsys) -> None:
    assert run("fit", "--run", "a", module=Exits) == 1
    assert "exit()" in capsys.readouterr().err
    assert record("a")["status"] == "failed"


def test_a_metric_that_is_not_finite_is_named(run, capsys) -> None:
    assert run("fit", "--early_stopping.monitor=val/loss", module=NotFinite) == 0
    assert "Stopped early: val/loss is nan" in capsys.readouterr().out


def test_a_run_has_the_options_that_its_classes_require(run, capsys) -> None:
    Path("width.yaml").write_text("model:\n  width: 1\n")
    assert run("fit", "-c", "width.yaml", "--run", "a", module=Required) == 0
    assert [run(command, "--run", "a", module=Required) for command in ("test", "validate", "predict")] == [0, 0, 0]
    assert run("fit", "--resume", "a", "--trainer.max_epochs=4", module=Required) == 0
    with pytest.raises(SystemExit, match="2"):
        run("fit", module=Required)
    assert "model.width" in capsys.readouterr().err


def test_a_mistake_in_the_code_keeps_its_traceback(run, capsys) -> None:
    assert run("fit", "--run", "a", module=Broken) == 1
    error = capsys.readouterr().err
    assert "test_fit.py" in error
    assert error.splitlines()[-2] == "ValueError: a mistake in the code"
    with pytest.raises(ValueError, match="a mistake in the code"):
        run("fit", "--run", "b", "--traceback", module=Broken)
    assert record("a")["status"] == record("b")["status"] == "failed"


def test_a_stopped_training_names_the_command_that_resumes_it(monkeypatch, capsys) -> None:
    def stopped(*args: Any) -> None:
        raise signals.Stopped(signal.SIGINT)

    monkeypatch.setattr(fit, "run_trainer_command", stopped)
    for command in ("fit", "test", "predict"):
        assert fit.main([command], Toy, ToyData) == 130
        (line,) = capsys.readouterr().err.splitlines()
        assert "SIGINT" in line
        assert ("fit --resume" in line) == (command == "fit")


def test_the_recorded_command_repeats_the_run(run) -> None:
    Path("configs/my file.yaml").write_text("trainer:\n  max_epochs: 1\n")
    assert run("fit", "-c", "configs/my file.yaml", "--run", "a", "--model.lr=0.03") == 0
    program, args = record("a")["command"].split(" fit ")
    assert program == "python -m toy_project"
    Path("runs/a").rename("runs/first")
    assert run("fit", *shlex.split(args)) == 0
    assert_same("first", "a")


def test_the_line_of_an_epoch_has_no_earlier_validation(run, capsys) -> None:
    bar = "lightning_runs.training.progress.ProgressBar"
    often = ("--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4", "--trainer.enable_progress_bar=true")
    assert run("fit", "--run", "a", *often, "--trainer.callbacks+", bar) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert ["val/loss" in line for line in lines] == [False, True, False, True]
    assert len([row for row in rows("a") if row["val/loss"]]) == 2


def test_an_early_stop_is_printed_with_its_metric(run, capsys) -> None:
    stop = ("--early_stopping.monitor", "val/loss", "--early_stopping.patience", "2")
    assert run("fit", "--run", "a", *stop, "--early_stopping.min_delta", "100") == 0
    assert re.search(r"\nStopped early: val/loss \D* 2 ", capsys.readouterr().out)
