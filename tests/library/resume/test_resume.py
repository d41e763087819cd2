"""A run that was stopped ends like one that was not, or says what has changed in between."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from lightning_runs import runs
from lightning_runs.resume.loaders import ExactLoaders, Iterated
from lightning_runs.resume.randomness import generators
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset
from toy import Toy, ToyData
from written import assert_same, last_checkpoint, record, rows


def test_the_state_is_saved_every_few_steps(run) -> None:
    saved = []

    class Watched(Toy):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            saved.append(checkpoint["global_step"])

    assert run("fit", "--save_every_n_steps", "4", "--trainer.max_epochs", "2", module=Watched) == 0
    assert set(saved) == {0, 4, 8} | {6, 12}  # an epoch has 6


class Noted(TensorDataset):
    """Numbers of its items, which are noted when they are read."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(48, 4), torch.arange(48.0) / 12)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        self.read.append(index)
        return super().__getitem__(index)


def test_an_epoch_has_each_item_once_in_a_new_order(run, interrupt) -> None:
    dataset = Noted()
    seen: list[list[float]] = [[], [], []]
    drawn = []

    class NotedData(ToyData):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(dataset, batch_size=8, shuffle=True)

    class Notes(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen[self.current_epoch] += batch[1].tolist()
            drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
            return super().training_step(batch, batch_idx)

    interrupt("a", module=Notes, data=NotedData)
    dataset.read.clear()
    assert run("fit", "--resume", module=Notes, data=NotedData) == 0
    assert len(dataset.read) == 3 * 8 + 48  # finished items are not read again
    assert [len(set(epoch)) for epoch in seen] == [len(epoch) for epoch in seen] == [48, 48, 48]
    assert seen[0] != seen[1] != seen[2]
    assert len(set(drawn)) == len(drawn) == 3 * 6


def test_a_resumed_run_keeps_its_options(run, have, capsys) -> None:
    have("interrupted", "a")
    config = Path("runs/a/config.yaml")
    config.write_text(config.read_text().replace("everything: 1", "everything: 2"))
    assert run("fit", "--resume", "a", "--data.batch_size", "4") == 1
    assert "data.batch_size is 4 and was 8, seed_everything is 2 and was 1" in capsys.readouterr().err
    config.write_text(config.read_text().replace("everything: 2", "everything: 1"))
    assert run("fit", "--resume", "a", "--model.lr", "0.01", "--accept_changes", "true") == 0
    assert record("a")["accepted_changes"] == ["A change was accepted: model.lr is 0.01 and was 0.02."]
    assert "model.lr is 0.01 and was 0.02" in Path("runs/a/report.html").read_text(encoding="utf-8")


def test_a_repeated_command_appends_its_callbacks_once(run, interrupt) -> None:
    added = ("--run=a", "--resume", "--trainer.callbacks+=pytorch_lightning.callbacks.LearningRateMonitor")
    interrupt("a", *added)
    assert run("fit", *added) == 0
    assert Path("runs/a/config.yaml").read_text().count("LearningRateMonitor") == 1
    assert record("a")["status"] == "finished"


class MoreData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return self.loader(56, 0, shuffle=True)


def test_a_run_is_not_resumed_on_other_data(run, have, capsys) -> None:
    have("interrupted", "a")
    assert run("fit", "--resume", "a", data=MoreData) == 1
    assert "the fingerprint of the data is 56 items and was 48 items" in capsys.readouterr().err
    assert run("fit", "--resume", "a", "--accept_changes", "true", data=MoreData) == 0
    assert len(record("a")["accepted_changes"]) == 1
    assert record("a")["fingerprint"] == "56 items"


def test_a_finished_run_may_train_longer(run, have) -> None:
    assert run("fit", "--run", "whole", "--trainer.max_epochs", "4") == 0
    have("finished", "a")
    assert run("fit", "--resume", "a", "--trainer.max_epochs", "4") == 0
    assert record("a")["epochs"] == 4
    trained = [[row["train/loss"] for row in rows(name) if row["train/loss"]] for name in ("a", "whole")]
    assert trained[0] == trained[1]


def test_another_number_of_processes_is_refused(run, have, capsys) -> None:
    have("interrupted", "a")
    content = last_checkpoint("a")
    content["callbacks"]["ExactResume"]["world_size"] = 2
    torch.save(content, "runs/a/checkpoints/last.ckpt")
    assert run("fit", "--resume") == 1
    assert "trained by 2 processes, and now there are 1" in capsys.readouterr().err


def test_a_checkpoint_with_a_wrong_bit_is_skipped(run, have, capsys) -> None:
    have("finished", "whole")
    have("interrupted", "a")
    file = Path("runs/a/checkpoints/last.ckpt")
    content = bytearray(file.read_bytes())
    content[content.index(last_checkpoint("a")["state_dict"]["layer.weight"].numpy().tobytes())] ^= 1
    file.write_bytes(content)
    assert run("fit", "--resume") == 0
    assert "last.ckpt can't be read" in capsys.readouterr().out
    assert_same("a", "whole")


def test_a_run_in_use_is_refused_and_is_not_resumed(run, have, monkeypatch, capsys) -> None:
    monkeypatch.setattr(runs.run, "LOCK_TIMEOUT", 0.1)
    have("interrupted", "a")
    have("interrupted", "b")
    with FileLock(Path("runs/b/.lock").absolute()):
        assert run("fit", "--resume", "b") == 1
        assert "the run b is in use" in capsys.readouterr().err
        assert run("fit", "--resume") == 0
        assert (record("a")["status"], record("b")["status"]) == ("finished", "interrupted")
    assert run("fit", "--resume", "b") == 0


def test_a_data_module_has_its_state_before_and_after_setup(run) -> None:
    calls: list[str] = []

    class Stateful(ToyData):
        def setup(self, stage: str) -> None:
            calls.append("setup")

        def state_dict(self) -> dict[str, Any]:
            return {"call": "load"}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            calls.append(state_dict["call"])

    assert run("fit", "--run", "a", data=Stateful) == 0
    calls.clear()
    assert run("test", data=Stateful) == 0
    assert calls == ["load", "setup", "load"]


def test_checkpoints_hold_no_classes_among_hyperparameters(run) -> None:
    class TakesClasses(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"layer": torch.nn.Linear, "size": 4})

    assert run("fit", "--run", "a", "--trainer.max_epochs", "1", module=TakesClasses) == 0
    assert last_checkpoint("a")["hyper_parameters"] == {"size": 4}


def test_a_state_that_no_resume_could_read_is_refused_at_once(run, capsys) -> None:
    class Odd(Toy):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["odd"] = Path("a")

    assert run("fit", "--run", "a", module=Odd) == 1
    assert "this run could not be resumed" in capsys.readouterr().err
    assert not Path("runs/a").exists()


def test_the_generators_of_a_data_set_are_found() -> None:
    found = [torch.Generator(), np.random.default_rng(), np.random.RandomState()]
    dataset = Noted()
    dataset.held = {"deep": found}
    assert list(map(id, generators(Subset(dataset, [0])))) == list(map(id, found))


def test_each_process_has_random_numbers_of_its_own() -> None:
    exact = ExactLoaders(seed=1)
    loader = Iterated([], exact, train=True)
    loader.key = (1, 0, 0, 0, 0)
    keys = set()
    for rank in (0, 1):
        exact.trainer = SimpleNamespace(global_rank=rank)
        keys.add(loader.rank_key)
    assert len(keys) == 2
