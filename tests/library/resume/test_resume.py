"""A run that was stopped ends like one that was not, or says what has changed in between."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from lightning_runs import runs
from lightning_runs.resume import differences
from lightning_runs.resume.loaders import ExactLoaders, Iterated
from resume.test_exact import Stream
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import Toy, ToyData, assert_fails, refused
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

    read: list[int] = []

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        self.read.append(index)
        return super().__getitem__(index)


def test_an_epoch_has_each_item_once_in_a_new_order(run, interrupt) -> None:
    dataset = Noted(torch.zeros(48, 4), torch.arange(48.0) / 12)
    seen: list[list[float]] = [[], [], []]
    drawn = []

    class NotedData(ToyData):
        def dataset(self, count: int, seed: int) -> Any:
            return dataset if seed == 0 else super().dataset(count, seed)

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


def test_a_resumed_run_keeps_its_options(run, have) -> None:
    have("interrupted", "a")
    config = Path("runs/a/config.yaml")
    config.write_text(config.read_text().replace("everything: 1", "everything: 2"))
    assert_fails(["data.batch_size", " 4", "seed_everything", " 2"], "fit", "--resume", "a", "--data.batch_size", "4")
    config.write_text(config.read_text().replace("everything: 2", "everything: 1"))
    assert run("fit", "--resume", "a", "--model.lr", "0.01", "--accept_changes", "true") == 0
    assert record("a")["accepted_changes"] == ["A change was accepted: model.lr was 0.02 and is 0.01."]
    assert "model.lr was 0.02 and is 0.01" in Path("runs/a/report.html").read_text(encoding="utf-8")
    with refused("model.new was None and is 1"):  # an argument that the user's class has got since
        differences.refuse(runs.Run(Path("runs/a")), {}, {"model.new": 1}, accept=False)


def test_a_repeated_command_appends_its_callbacks_once(run, interrupt) -> None:
    added = ("--run=a", "--resume", "--trainer.callbacks+=pytorch_lightning.callbacks.LearningRateMonitor")
    interrupt("a", *added)
    assert run("fit", *added) == 0
    assert Path("runs/a/config.yaml").read_text().count("LearningRateMonitor") == 1


def test_a_run_is_not_resumed_on_other_data(run, have, monkeypatch) -> None:
    have("interrupted", "a")
    monkeypatch.setattr(ToyData, "train_dataloader", lambda self: self.loader(56, 0, shuffle=True))
    assert_fails(["fingerprint of the data", "56 items", "48 items"], "fit", "--resume", "a")
    assert run("fit", "--resume", "a", "--accept_changes", "true") == 0
    assert len(record("a")["accepted_changes"]) == 1
    assert record("a")["fingerprint"] == "56 items"


def test_a_finished_run_may_train_longer(run, have) -> None:
    assert run("fit", "--run", "whole", "--trainer.max_epochs", "4") == 0
    have("finished", "a")
    assert run("fit", "--resume", "a", "--trainer.max_epochs", "4") == 0
    assert record("a")["epochs"] == 4
    trained = [[row["train/loss"] for row in rows(name) if row["train/loss"]] for name in ("a", "whole")]
    assert trained[0] == trained[1]


def test_another_number_of_processes_is_refused(have) -> None:
    have("interrupted", "a")
    content = last_checkpoint("a")
    content["callbacks"]["ExactResume"]["world_size"] = 2
    torch.save(content, "runs/a/checkpoints/last.ckpt")
    assert_fails("trained by 2 processes, and now there are 1", "fit", "--resume")


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


def test_a_run_in_use_is_refused_and_is_not_resumed(run, have, monkeypatch) -> None:
    monkeypatch.setattr(runs.run, "LOCK_TIMEOUT", 0.1)
    have("interrupted", "a")
    have("interrupted", "b")
    with FileLock(Path("runs/b/.lock").absolute()):
        assert_fails(["run 'b'", "process"], "fit", "--resume", "b")
        assert run("predict", "--run", "b") == 0  # which needs no lock
        assert run("fit", "--resume") == 0
    assert (record("a")["status"], record("b")["status"]) == ("finished", "interrupted")


def test_a_state_that_no_resume_could_read_is_refused_at_once() -> None:
    class Odd(Toy):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["odd"] = Path("a")

    assert_fails("this run could not be resumed", "fit", "--run", "a", module=Odd)
    assert not Path("runs/a").exists()


def test_each_process_has_random_numbers_of_its_own() -> None:
    exact = ExactLoaders(seed=1)
    loader = Iterated([], exact, train=True)
    loader.key = (1, 0, 0, 0, 0)
    keys = []
    for rank in (0, 1):
        exact.trainer = SimpleNamespace(global_rank=rank)
        keys.append(loader.rank_key)
    assert keys[0] != keys[1]


def test_a_loader_that_has_ended_seeds_no_step() -> None:
    exact = ExactLoaders(seed=1)
    before = torch.get_rng_state()
    assert list(Iterated([1, 2], exact, train=True)._steps(iter([]), done=3)) == []
    assert torch.get_rng_state().equal(before)


def test_a_stream_that_devices_can_not_share_is_named() -> None:
    exact = ExactLoaders(seed=1)
    exact.trainer = SimpleNamespace(training=True, world_size=2)
    exact.wrap(DataLoader(Stream()))
    assert "Stream is not split" in exact.notes[-1]
