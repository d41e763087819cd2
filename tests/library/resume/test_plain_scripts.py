"""Plain scripts with Lightning's Trainer and `ExactResume`: killed at any step, they end as if they were not."""

import csv
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
from lightning_runs import ExactResume, UserError
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from sizes import ROOT
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from toy import Death, Toy, ToyData

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


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(0)
        for _ in range(48):
            numbers = torch.randn(4, generator=generator)
            yield numbers, numbers.sum()


class StreamData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Stream(), self.batch_size)


def train(
    name: str, death: int | None = None, seed: int = 7, by_fit: bool = True, logger: Any = None, **options: Any
) -> Path:
    """Run the script once, and return the folder of the training."""
    pl.seed_everything(seed, workers=True)
    model = Net()
    DEATH[0] = death
    data = options.pop("data", ToyData)(num_workers=options.pop("num_workers", 0))
    resume = ExactResume(f"runs/{name}", every_n_steps=2)
    callbacks = [ModelCheckpoint(monitor="val/loss", save_top_k=2), EarlyStopping("val/loss", patience=9), resume]
    settings = {"max_epochs": 3, "log_every_n_steps": 1, "accelerator": "cpu", "devices": 1, **options}
    trainer = pl.Trainer(
        callbacks=callbacks,
        logger=logger(name) if logger else CSVLogger("logs", name),
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    if by_fit:
        resume.fit(trainer, model, data)
    else:
        trainer.fit(model, data, ckpt_path=resume.checkpoint)
    return resume.folder


def rows(name: str) -> list[dict[str, str]]:
    (file,) = Path("logs", name).rglob("metrics.csv")
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


SCRIPTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "trainer.fit": {"by_fit": False},
    "workers": {"num_workers": 2},
    "accumulation": {"accumulate_grad_batches": 2, "by_fit": False},
    "validation inside an epoch": {"val_check_interval": 0.5},
    "stream": {"data": StreamData},
    "64 bit": {"precision": "64-true"},
    "bf16": {"precision": "bf16-mixed"},
    "a fixed version": {"logger": lambda name: CSVLogger("logs", name, version=3), "by_fit": False},
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
    with pytest.raises(UserError, match="seed is 8 and was 7"):
        train("a", seed=8)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    with pytest.raises(UserError, match="seed_everything"):
        ExactResume("runs/b")


def test_a_forgotten_checkpoint_is_refused() -> None:
    with pytest.raises(Death):
        train("a", 5)
    resume = ExactResume("runs/a")
    trainer = pl.Trainer(callbacks=[resume], accelerator="cpu", devices=1, logger=False, max_epochs=1)
    with pytest.raises(UserError, match="ckpt_path=resume.checkpoint"):
        trainer.fit(Net(), ToyData())


def test_a_second_process_in_the_folder_is_refused() -> None:
    pl.seed_everything(7)
    first = ExactResume("runs/a")
    with pytest.raises(UserError, match="in use"):
        ExactResume("runs/a")
    assert first.run is not None
    first.run.unlock()


def test_wandb_continues_its_run_by_fit_alone(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")

    def logger(name: str) -> WandbLogger:
        return WandbLogger(name, save_dir="wandb_files")

    with pytest.raises(Death):
        train("a", 5, logger=logger)
    wandb.finish()  # as the end of the process does
    with pytest.raises(UserError, match="resume.fit"):
        train("a", by_fit=False, logger=logger)
    wandb.finish()
    train("a", logger=logger)
    identity = Path("runs/a/run.json").read_text(encoding="utf-8").partition('"0": "')[2][:8]
    assert len([*Path("wandb_files/wandb").glob(f"offline-run-*-{identity}")]) == 2
    wandb.finish()
