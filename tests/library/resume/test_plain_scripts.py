"""Plain scripts with Lightning's Trainer and `ExactResume`: killed at any step, they end as if they were not."""

import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb
from comparison import unlike
from lightning_runs import ExactResume, UserError, run
from pytorch_lightning.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from resume.test_exact import StreamData
from sizes import ROOT
from starts import add_options, start_module
from torch import Tensor, nn
from toy import Death, Toy, ToyData
from written import read_table, record, weights

DEATH: list[int | None] = [None]  # the call of a step that dies; an attribute of the module would be resumed


class Net(Toy):
    """A network with a state of its own in training, which draws random numbers in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.calls = count(1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if next(self.calls) == DEATH[0]:
            raise Death
        return super().training_step([batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]], batch_idx)


def train(
    name: str, death: int | None = None, seed: int = 7, by_fit: bool = True, logger: Any = None, **options: Any
) -> Path:
    """Run the script once, and return the folder of the training."""
    pl.seed_everything(seed, workers=True)
    DEATH[0] = death
    data = options.pop("data", ToyData)(num_workers=options.pop("num_workers", 0))
    resume = ExactResume(f"runs/{name}", every_n_steps=2)
    callbacks = [ModelCheckpoint(monitor="val/loss", save_top_k=2), EarlyStopping("val/loss", patience=9), resume]
    logger = logger(name) if logger else CSVLogger("logs", name)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    trainer = pl.Trainer(callbacks=callbacks, logger=logger, max_epochs=3, log_every_n_steps=1, **quiet, **options)
    if by_fit:
        resume.fit(trainer, Net(), data)
    else:
        trainer.fit(Net(), data, ckpt_path=resume.checkpoint)
    return resume.folder


def rows(name: str) -> list[dict[str, str]]:
    (file,) = Path("logs", name).rglob("metrics.csv")
    return read_table(file)


SCRIPTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "trainer.fit": {"by_fit": False, "accumulate_grad_batches": 2},
    "workers": {"num_workers": 2},
    "validation inside an epoch": {"val_check_interval": 0.5},
    "stream": {"data": StreamData},
    "64 bit": {"precision": "64-true"},
    "bf16": {"precision": "bf16-mixed"},
    "a fixed version": {"logger": lambda name: CSVLogger("logs", name, version=3), "by_fit": False},
    "two loggers": {"logger": lambda name: [CSVLogger("logs", name), CSVLogger("more", name)]},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_killed_script_ends_as_if_it_was_not(script) -> None:
    options = SCRIPTS[script]
    whole = train("whole", **options)
    for death in (4, 5):
        with pytest.raises(Death):
            train("killed", death, **options)
    killed = train("killed", **options)
    assert unlike(whole / "last.ckpt", killed / "last.ckpt") == []
    assert rows("killed") == rows("whole")
    train("killed", **options)  # nothing is left to train
    assert torch.load(killed / "last.ckpt")["global_step"] == torch.load(whole / "last.ckpt")["global_step"]
    assert len(rows("killed")) == len(rows("whole"))


def test_the_documented_script_trains_and_has_an_end() -> None:
    page = (ROOT.parents[1] / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(# script.py\n.*?)^```", page, flags=re.M | re.S)
    for _ in range(2):  # the second time, nothing is left to train
        exec(script, {})
    assert json.loads(Path("runs/a/run.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_without_the_exact_loaders_a_killed_script_differs(monkeypatch) -> None:
    whole = train("whole")
    monkeypatch.setattr("lightning_runs.resume.loaders.ExactLoaders.wrap", lambda self, loader: loader)
    with pytest.raises(Death):
        train("killed", 9)
    assert unlike(whole / "last.ckpt", train("killed") / "last.ckpt") != []


def test_another_seed_or_none_is_refused(monkeypatch) -> None:
    with pytest.raises(Death):
        train("a", 5)
    with pytest.raises(UserError, match="seed.*8"):
        train("a", seed=8)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    with pytest.raises(UserError, match="seed_everything"):
        ExactResume("runs/b")


def test_a_forgotten_checkpoint_and_a_second_process_are_refused() -> None:
    with pytest.raises(Death):
        train("a", 5)
    resume = ExactResume("runs/a")
    trainer = pl.Trainer(callbacks=[resume], accelerator="cpu", devices=1, logger=False, max_epochs=1)
    with pytest.raises(UserError, match="ckpt_path=resume.checkpoint"):
        trainer.fit(Net(), ToyData())
    first = ExactResume("runs/b")
    with pytest.raises(UserError, match="process"):
        ExactResume("runs/b")
    assert first.checkpoint is None


def test_a_trial_keeps_nothing_and_other_misuse_is_refused() -> None:
    assert list(train("a", fast_dev_run=True).iterdir()) == []
    resume = ExactResume("runs/b")
    trainer = pl.Trainer(max_steps=1, logger=False, accelerator="cpu", devices=1)
    resume.fit(trainer, Net(), ToyData())
    with pytest.raises(UserError, match="ExactResume"):
        resume.fit(trainer, Net(), ToyData())
    finder = pl.Trainer(callbacks=[LearningRateFinder()], logger=False, accelerator="cpu", devices=1)
    # the package lightning has a Trainer of its own
    for trainer, text in ((finder, "LearningRateFinder"), (object(), "pytorch_lightning")):
        with pytest.raises(UserError, match=text):
            ExactResume(f"runs/{text}").setup(trainer, Net(), "fit")


def test_wandb_continues_its_run_by_fit_alone(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")

    def logger(name: str) -> list[Any]:
        return [WandbLogger(name, save_dir="wandb_files"), CSVLogger("logs", name)]

    with pytest.raises(Death):
        train("a", 5, logger=logger)
    wandb.finish()  # as the end of the process does
    with pytest.raises(UserError, match="resume.fit"):
        train("a", by_fit=False, logger=logger)
    wandb.finish()
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(WandbLogger, "log_metrics", lambda self, metrics, step: logged.append(metrics))
    train("a", logger=logger)
    identity = Path("runs/a/run.json").read_text(encoding="utf-8").partition('"0": "')[2][:8]
    assert len([*Path("wandb_files/wandb").glob(f"offline-run-*-{identity}")]) == 2
    wandb.finish()
    assert [row["repeated"] for row in logged if "repeated" in row] == [1.0] * 4


def test_a_plain_trainer_reaches_the_numbers_of_a_run() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    data = start_module("blank", "data")
    module = start_module("blank", "module")
    Path("configs/default.yaml").write_text("seed_everything: 42\ncheckpoint:\n  monitor: val/loss\n")
    add_options("blank", "", Path("configs/default.yaml"))
    args = ["fit", "--run=a", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--logger=none"]
    assert run(module.DigitClassifier, data.DigitsDataModule, args) == 0
    names: dict = {}
    exec(code.replace("PACKAGE", "start_blank").replace("max_epochs=20", "max_epochs=2"), names)
    assert names["metrics"] == {name: value for name, value in record("a", "test.json").items() if name != "checkpoint"}
    saved = names["trainer"].checkpoint_callback.best_model_path
    assert record("a")["best_checkpoint"].startswith("epoch=001")
    assert all(map(torch.equal, torch.load(saved)["state_dict"].values(), weights("a").values()))
