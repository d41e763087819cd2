"""A run that was stopped ends like one that was not, or says what has changed in between."""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from lightning_runs import runs
from lightning_runs.errors import UserError
from lightning_runs.resume import checkpoint_files, differences
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from toy import Toy, ToyData
from written import assert_same, last_checkpoint, record, rows


class Noise(Dataset):
    """Each item is changed by random numbers whenever it is read."""

    def __init__(self, items: Any) -> None:
        self.items = items
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        numbers, total = self.items[index]
        noise = random.random() + np.random.rand() + self.generator.random()
        return numbers + 0.1 * (noise + torch.randn(4)), total


class NoisyData(ToyData):
    def train_dataloader(self) -> DataLoader:
        items = Noise(self.dataset(48, 0))
        return DataLoader(items, batch_size=self.batch_size, shuffle=True, num_workers=self.num_workers)


class RandomSteps(Toy):
    """The step itself draws random numbers, and logs what is summed over an epoch."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.mean = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scale = 1 + 0.1 * random.random() + 0.1 * np.random.rand()
        numbers = torch.nn.functional.dropout(batch[0], 0.2) * scale
        loss = super().training_step([numbers, batch[1]], batch_idx)
        self.log("train/epoch_loss", loss, on_step=False, on_epoch=True)
        self.mean.update(loss.detach())
        self.log("train/mean", self.mean, on_step=False, on_epoch=True)
        return loss


@pytest.mark.parametrize("options", [(), ("--speed.short_loop", "false")])
def test_an_interrupted_run_ends_like_a_whole_one(options, run, interrupt, have) -> None:
    have("finished", "whole")
    interrupt("stopped", *options)
    assert record("stopped")["status"] == "interrupted"
    assert len(rows("stopped")) < len(rows("whole"))
    assert run("fit", *options, "--resume") == 0
    assert_same("stopped", "whole")


class Plateau(Toy):
    """The learning rate is halved after each epoch with a lower loss."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"}}


def test_an_epoch_keeps_its_validations_and_its_schedule(run, interrupt) -> None:
    options = ("--trainer.val_check_interval", "3", "--trainer.max_epochs", "2")
    assert run("fit", "--run", "whole", *options, module=Plateau) == 0
    interrupt("stopped", *options, module=Plateau)  # when a validation has just been
    assert run("fit", "--resume", module=Plateau) == 0
    assert_same("stopped", "whole")
    ours, theirs = last_checkpoint("stopped"), last_checkpoint("whole")
    assert [ours[key] for key in ("loops", "lr_schedulers")] == [theirs[key] for key in ("loops", "lr_schedulers")]


def test_the_state_is_saved_every_few_steps(run) -> None:
    saved = []

    class Watched(Toy):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            saved.append(checkpoint["global_step"])

    assert run("fit", "--save_every_n_steps", "4", "--trainer.max_epochs", "2", module=Watched) == 0
    assert set(saved) == {0, 4, 8} | {6, 12}  # an epoch has 6


def test_summed_gradients_are_not_interrupted(run, interrupt) -> None:
    options = ("--trainer.accumulate_grad_batches", "2")
    assert run("fit", "--run", "whole", *options) == 0
    interrupt("stopped", *options)
    assert run("fit", "--resume", *options) == 0
    assert_same("stopped", "whole")


@pytest.mark.parametrize(("workers", "workers_then"), [(2, 2), (1, 0)])
def test_random_numbers_are_those_of_the_whole_run(workers, workers_then, run, interrupt, tmp_path_factory) -> None:
    classes = {"module": RandomSteps, "data": NoisyData}
    whole = tmp_path_factory.getbasetemp() / "random"  # which is the same for each number of workers
    if not whole.exists():
        assert run("fit", "--run", "whole", **classes) == 0
        shutil.copytree("runs/whole", whole)
    shutil.copytree(whole, "runs/whole", dirs_exist_ok=True)
    interrupt("stopped", "--data.num_workers", str(workers), **classes)
    assert run("fit", "--resume", "--data.num_workers", str(workers_then), **classes) == 0
    assert_same("stopped", "whole")


class StoppedAtOnce(RandomSteps):
    def on_train_start(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_logged_sums_survive_two_stops_without_a_step(run, interrupt) -> None:
    assert run("fit", "--run", "whole", module=RandomSteps) == 0
    interrupt("stopped", module=RandomSteps)
    assert run("fit", "--resume", module=StoppedAtOnce) == 130
    assert run("fit", "--resume", module=RandomSteps) == 0
    assert_same("stopped", "whole")


def test_an_epoch_has_each_item_once_in_a_new_order(run, interrupt) -> None:
    seen: list[list[float]] = [[], [], []]
    drawn = []

    class Watched(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen[self.current_epoch] += batch[1].tolist()
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
            return super().training_step(batch, batch_idx)

    interrupt("a", module=Watched)
    assert len(seen[1]) == 3 * 8
    assert run("fit", "--resume", module=Watched) == 0
    assert [len(set(epoch)) for epoch in seen] == [len(epoch) for epoch in seen] == [48, 48, 48]
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert seen[0] != seen[1] != seen[2]
    assert len(set(drawn)) == len(drawn) == 3 * 6


def test_a_resumed_run_keeps_its_options(run, have, capsys) -> None:
    have("interrupted", "a")
    assert run("fit", "--resume", "a", "--data.batch_size", "4") == 1
    assert "data.batch_size is 4 and was 8" in capsys.readouterr().err
    assert run("fit", "--resume", "a", "--model.lr", "0.01", "--accept_changes", "true") == 0
    assert record("a")["accepted_changes"] == ["A change was accepted: model.lr is 0.01 and was 0.02."]
    assert "model.lr is 0.01 and was 0.02" in Path("runs/a/report.html").read_text(encoding="utf-8")


def test_an_edited_configuration_is_refused(run, have, capsys) -> None:
    have("interrupted", "a")
    config = Path("runs/a/config.yaml")
    config.write_text(
        config.read_text().replace("batch_size: 8", "batch_size: 4").replace("everything: 1", "everything: 2")
    )
    assert run("fit", "--resume", "a") == 1
    error = capsys.readouterr().err
    assert "data.batch_size is 4 and was 8" in error
    assert "seed_everything is 2 and was 1" in error


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({"data.size": 1}, {"data.size": 1, "data.shift": 2}, "data.shift is 2 and was None"),
        ({"data.size": 1}, {}, "data.size is None and was 1"),
        ({"trainer.max_epochs": 1, "data.num_workers": 2}, {"trainer.max_epochs": 2, "data.num_workers": 0}, None),
        ({"checkpoint.monitor": None}, {"checkpoint.monitor": None, "checkpoint.mode": "min"}, None),
        ({"checkpoint.monitor": None}, {"checkpoint.monitor": "a"}, "checkpoint.monitor is a and was None"),
    ],
)
def test_a_change_is_named_unless_it_is_allowed(before, now, changed, tmp_path) -> None:
    run = runs.Run(tmp_path)
    if changed is None:
        differences.refuse(run, before, now, accept=False)
        assert run.record["accepted_changes"] == []
    else:
        with pytest.raises(UserError, match=changed):
            differences.refuse(run, before, now, accept=False)


def test_a_repeated_command_appends_its_callbacks_once(run, interrupt) -> None:
    added = ("--trainer.callbacks+=pytorch_lightning.callbacks.LearningRateMonitor",)
    interrupt("a", *added)
    assert run("fit", "--resume", "a", *added) == 0
    assert Path("runs/a/config.yaml").read_text().count("LearningRateMonitor") == 1


class OtherData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return self.loader(48, 9, shuffle=True)


class MoreData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return self.loader(56, 0, shuffle=True)


@pytest.mark.parametrize(("data", "count"), [(OtherData, 48), (MoreData, 56)])
def test_a_run_is_not_resumed_on_other_data(data, count, run, have, capsys) -> None:
    have("interrupted", "a")
    before = record("a")["fingerprint"]
    assert run("fit", "--resume", "a", data=data) == 1
    error = capsys.readouterr().err
    assert f"the fingerprint of the data is {count} items, " in error
    assert f" and was {before}" in error
    assert run("fit", "--resume", "a", "--accept_changes", "true", data=data) == 0
    assert len(record("a")["accepted_changes"]) == 1
    assert record("a")["fingerprint"] != before


def test_a_finished_run_may_train_longer(run, have) -> None:
    assert run("fit", "--run", "whole", "--trainer.max_epochs", "4") == 0
    have("finished", "a")
    assert run("fit", "--resume", "a", "--trainer.max_epochs", "4") == 0
    assert record("a")["epochs"] == 4
    trained = [[row["train/loss"] for row in rows(name) if row["train/loss"]] for name in ("a", "whole")]
    assert trained[0] == trained[1]


def test_a_checkpoint_with_a_wrong_bit_is_refused(tmp_path) -> None:
    file = tmp_path / "a.ckpt"
    torch.save(torch.zeros(1000), file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ckpt can't be read: .* is damaged"):
        checkpoint_files.read(file)


def test_files_of_killed_processes_are_removed(run, have) -> None:
    have("interrupted", "a")
    left = [Path("runs/a/checkpoints/.last.ckpt.0.tmp"), Path("runs/a/.run.json.0.tmp")]
    for file in left:
        file.touch()
    made, begun = Path("runs/.0.tmp"), Path("runs/.1.tmp")  # folders of runs: one of a killed process, one of a living
    for folder in (made, begun):
        folder.mkdir()
        (folder / "config.yaml").touch()
    os.utime(made, (0, 0))
    assert run("fit", "--resume") == 0
    assert not any(path.exists() for path in (*left, made))
    assert begun.exists()


def test_another_number_of_processes_is_refused(run, have, capsys) -> None:
    have("interrupted", "a")
    content = last_checkpoint("a")
    content["callbacks"]["ExactResume"]["world_size"] = 2
    torch.save(content, "runs/a/checkpoints/last.ckpt")
    assert run("fit", "--resume") == 1
    assert "trained by 2 processes, and now there are 1" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_skipped(run, have, own_folder, capsys) -> None:
    have("finished", "whole")
    have("interrupted", "a")
    last = own_folder / "runs" / "a" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert run("fit", "--resume") == 0
    assert "last.ckpt can't be read" in capsys.readouterr().out
    assert_same("a", "whole")


def test_a_run_in_use_is_refused(run, have, own_folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr(runs.run, "LOCK_TIMEOUT", 0.1)
    have("interrupted", "a")
    with FileLock(own_folder / "runs" / "a" / ".lock"):
        assert run("fit", "--resume", "a") == 1
        assert "the run a is in use" in capsys.readouterr().err
    assert run("fit", "--resume", "a") == 0


def test_a_run_in_use_is_not_the_newest_unfinished_one(run, have, own_folder, capsys) -> None:
    have("interrupted", "a")
    have("interrupted", "b")
    with FileLock(own_folder / "runs" / "b" / ".lock"):
        assert run("fit", "--resume") == 0
        assert (record("a")["status"], record("b")["status"]) == ("finished", "interrupted")
        assert run("fit", "--resume") == 1
        assert "no unfinished run" in capsys.readouterr().err


def test_the_same_command_starts_and_resumes_a_run(run, interrupt) -> None:
    interrupt("a", "--resume")
    assert run("fit", "--run", "a", "--resume") == 0
    assert record("a")["status"] == "finished"


@pytest.mark.parametrize("needs_setup", [False, True])
def test_a_data_module_has_its_state_before_setup(needs_setup, run) -> None:
    calls: list[str] = []

    class Stateful(ToyData):
        def setup(self, stage: str) -> None:
            calls.append("setup")
            self.words: list[str] = []

        def state_dict(self) -> dict[str, Any]:
            return {"words": ["a"]}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            if needs_setup:
                self.words += state_dict["words"]
            calls.append(f"load {state_dict['words'][0]}")

    assert run("fit", "--run", "a", data=Stateful) == 0
    calls.clear()
    assert run("test", data=Stateful) == 0
    assert calls == [*([] if needs_setup else ["load a"]), "setup", "load a"]


class TakesClasses(Toy):
    """A module with a class and a function among its hyperparameters, used without the command line."""

    def __init__(self, layer: Any, lr: float = 0.02, scale: Any = None) -> None:
        super().__init__(lr)
        self.save_hyperparameters()
        self.layer = layer(4, 1)


def test_checkpoints_hold_no_classes_among_hyperparameters(tmp_path) -> None:
    given = {"layer": torch.nn.Linear, "scale": lambda value: value}
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plugin = checkpoint_files.AtomicCheckpointIO()
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, plugins=plugin, **quiet)
    trainer.fit(TakesClasses(**given, lr=0.01), ToyData())
    trainer.test(datamodule=ToyData(), ckpt_path="best", verbose=False)
    file = trainer.checkpoint_callback.best_model_path  # pyright: ignore
    assert checkpoint_files.read(file)["hyper_parameters"] == {"lr": 0.01}
    model = TakesClasses.load_from_checkpoint(file, **given)
    assert model.lr == 0.01
    assert trainer.model.layer.weight.equal(model.layer.weight)  # pyright: ignore
    checkpoint_files.check_model(file, checkpoint_files.read(file), model)
    wider = TakesClasses(lambda size, out: torch.nn.Linear(size, 2), lr=0.5)
    with pytest.raises(UserError, match=r"layer\.weight is \(1, 4\) there and \(2, 4\) here"):
        checkpoint_files.check_model(file, checkpoint_files.read(file), wider)


def test_hyperparameters_that_no_resume_could_read_are_refused(run, capsys) -> None:
    class Odd(Toy):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["odd"] = Path("a")

    assert run("fit", "--run", "a", module=Odd) == 1
    assert "this run could not be resumed" in capsys.readouterr().err
