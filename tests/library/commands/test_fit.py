import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_runs import runs
from lightning_runs.training import callbacks
from torch.utils.data import DataLoader
from toy import Toy, ToyData, assert_fails
from written import assert_same, record, rows


def test_a_run_s_folder_has_all_that_is_known_of_it(have) -> None:
    have("finished", "a")
    folder = Path("runs/a")
    files = {".lock", "checkpoints", "config.yaml", "metrics.csv", "report.html", "run.json", "test.json"}
    assert {path.name for path in folder.iterdir()} == files
    known = record("a")
    assert (known["status"], known["epochs"], known["device"], known["processes"]) == ("finished", 3, "cpu", 1)
    assert (folder / "checkpoints" / known["best_checkpoint"]).is_file()
    assert known["best_score"] == min(float(row["val/loss"]) for row in rows("a") if row["val/loss"])
    assert known["train_items"] == 3 * 48
    assert 0 < known["train_seconds"] < known["seconds"]
    losses = [float(row["train/loss"]) for row in rows("a") if row["train/loss"]]
    assert record("a", "test.json")["test/loss"] < losses[-1] < 0.5 * losses[0]


def test_items_of_all_processes_are_counted(tmp_path, monkeypatch) -> None:
    clock = iter([0.0, 10.0, 40.0, 45.0, 50.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    two = SimpleNamespace(reduce=lambda items, reduce_op: {"sum": 2 * items}[reduce_op])
    combined = SimpleNamespace(flattened=[DataLoader(cast(Any, range(20)), batch_size=8), []])
    loop = SimpleNamespace(_combined_loader=combined)
    trainer: Any = SimpleNamespace(strategy=two, is_global_zero=True, current_epoch=0, fit_loop=loop)
    throughput = callbacks.Throughput(runs.Run(tmp_path))
    throughput.on_train_start(trainer, Toy())
    batches = [[torch.zeros(9, 7)] * 4, {"name": "a", "numbers": torch.zeros(3)}]
    throughput.on_train_batch_end(trainer, Toy(), None, batches, 2)
    throughput.on_validation_start(trainer, Toy())
    throughput.on_validation_end(trainer, Toy())
    throughput.on_train_epoch_end(trainer, Toy())
    known = runs.Run(tmp_path).record
    assert (known["epochs"], known["train_items"], known["train_seconds"]) == (1, 2 * 7, 15.0)


def test_test_data_that_have_no_item_give_no_numbers(have, monkeypatch) -> None:
    have("finished", "a")
    own = record("a", "test.json")
    monkeypatch.setattr(ToyData, "test_dataloader", lambda self: self.loader(0, 2))
    assert_fails("no batch of test_dataloader was read", "test")
    assert record("a", "test.json") == own


def test_an_overfitted_batch_stays_the_same_without_a_warning(run, monkeypatch, recwarn) -> None:
    seen = []
    monkeypatch.setattr(Toy, "on_train_batch_start", lambda self, batch, batch_idx: seen.append(batch[0]))
    assert run("fit", "--trainer.overfit_batches=1") == 0
    assert [batch.equal(seen[0]) for batch in seen] == [True] * 3
    assert [warning for warning in recwarn if "overfit" in str(warning.message)] == []


class Fails(Toy):
    error: BaseException = SystemExit()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise self.error


class Large(Fails):
    error = torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(("module", "named"), [(Large, "--trainer.accumulate_grad_batches"), (Fails, "exit()")])
def test_a_training_that_ends_by_itself_has_failed(module, named) -> None:
    assert_fails(named, "fit", "--run", "a", module=module)
    assert record("a")["status"] == "failed"


class Required(Toy):
    def __init__(self, lr: float) -> None:
        super().__init__(lr)


def test_a_run_has_the_options_that_its_classes_require(run) -> None:
    assert run("fit", "--model.lr=0.1", "--run", "a", module=Required) == 0
    assert run("test", "--run", "a", module=Required) == 0
    assert run("fit", "--resume", "a", "--trainer.max_epochs=4", module=Required) == 0
    assert_fails("model.lr", "fit", module=Required, code=2)


def test_the_recorded_command_repeats_the_run(run) -> None:
    Path("configs/my file.yaml").write_text("trainer:\n  max_epochs: 1\n")
    assert run("fit", "-c", "configs/my file.yaml", "--run", "a", "--model.lr=0.03") == 0
    program, args = record("a")["command"].split(" fit ")
    assert program == "python -m toy_project"
    Path("runs/a").rename("runs/first")
    assert run("fit", *shlex.split(args)) == 0
    assert_same("first", "a")
