"""A user's own classes, written as Lightning's documentation writes them: each command works or names what to add.

The classes are in `own_classes`, and nothing in them is made for this library.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from comparison import differences
from own_classes import classes
from processes import classes_folder
from processes import run as run_process
from torch.utils.data import DataLoader, TensorDataset
from toy import Toy, ToyData, answer


class Form(NamedTuple):
    """A way to write the two classes."""

    module: str  # file with the LightningModule
    data: str  # file with the data module; - where the LightningModule has the loaders
    metric: str  # is logged in each epoch, the lower the better
    missing: Mapping[str, str] = {}  # the method that a command has to name
    monitored: bool = True  # whether the metric is one of validation


TRAINS_ONLY = {"predict": "forward", "test": "test_step", "validate": "validation_step"}
NO_PREDICT_DATA = {"predict": "predict_dataloader"}
FORMS = {
    "loaders-in-module": Form("course_page", "-", "val_loss", NO_PREDICT_DATA),
    "plain-loaders": Form("classifier", "plain_data", "val_loss"),
    "two-optimizers": Form("gan", "plain_data", "val_d_loss", {"predict": "forward"}),
    "no-validation": Form("no_validation", "no_validation", "train_loss", TRAINS_ONLY, monitored=False),
}
FIT = ("--save_every_n_steps=3", "--trainer.callbacks+=lightning_runs.training.progress.ProgressBar")
COMMANDS = {
    "fit": ["fit", "--run=whole", *FIT],
    "test": ["test", "--run=whole"],
    "validate": ["validate", "--run=whole"],
    "predict": ["predict", "--run=whole"],
    "report": ["report", "whole"],
}


class Asked(NamedTuple):
    """What the commands answered for a form, and the folder of the run that was left alone."""

    form: Form
    run: Path
    answers: dict[str, tuple[int, str]]


@pytest.fixture(scope="module", params=FORMS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    form = FORMS[request.param]
    folder = classes_folder(tmp_path_factory.mktemp("own"), form.metric if form.monitored else "")
    owners = classes(form.module, form.data)
    with contextlib.chdir(folder):
        answers = {name: answer(*owners, arguments, "own_classes") for name, arguments in COMMANDS.items()}
    return Asked(form, folder / "runs" / "whole", answers)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_or_names_what_to_add(asked, command) -> None:
    code, said = asked.answers[command]
    assert "Traceback" not in said, said
    assert code == (command in asked.form.missing), said
    if command in asked.form.missing:
        (line,) = re.findall(r"^error: .*", said, re.MULTILINE)
        assert asked.form.missing[command] in line


def test_the_run_has_its_files_and_every_metric_in_the_report(asked) -> None:
    files = {"config.yaml", "run.json", "checkpoints/last.ckpt", "metrics.csv", "report.html", "test.json"}
    missing = {"test.json"} if "test" in asked.form.missing else set()
    assert {file for file in files if not (asked.run / file).is_file()} == missing
    assert json.loads((asked.run / "run.json").read_text())["status"] == "finished"
    page = (asked.run / "report.html").read_text(encoding="utf-8")
    columns = (asked.run / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert asked.form.metric in columns
    assert [column for column in columns if column not in ("epoch", "step") and column not in page] == []


def test_the_line_of_each_epoch_shows_the_metric(asked) -> None:
    lines = re.findall(r"^epoch .*", asked.answers["fit"][1], re.MULTILINE)
    assert [asked.form.metric in line for line in lines] == [True] * 3


def test_two_kills_leave_no_trace_in_a_run_s_end(asked, tmp_path_factory) -> None:
    folder = classes_folder(tmp_path_factory.mktemp("killed"), asked.form.metric if asked.form.monitored else "")
    module = f"own_classes.{asked.form.module}"
    program = ("own_classes", asked.form.module, asked.form.data)
    run_process(folder, *program, "fit", "--run=killed", *FIT, death=(module, "training_step", 18))
    # just after the end of an epoch: what it saved by itself is saved again by the next process
    run_process(folder, *program, "fit", "--resume=killed", death=(module, "training_step", 7))
    said = run_process(folder, *program, "fit", "--resume=killed")
    assert "is not resumable" not in said
    assert differences(asked.run, folder / "runs" / "killed") == []


class Faulty(Toy):
    def __init__(self, has_loss: bool = True) -> None:
        super().__init__()
        self.has_loss = has_loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) if self.has_loss else None


class FaultyData(ToyData):
    def __init__(self, batch_size: int = 8, empty: str = "", missing: bool = False, shuffle: bool = False) -> None:
        pl.LightningDataModule.__init__(self)
        self.save_hyperparameters()  # and no attribute of its own

    def part(self, split: str, **options: Any) -> DataLoader:
        count = 0 if self.hparams.empty == split else 48
        numbers = torch.full((count, 4), float("nan") if self.hparams.missing else 1.0)
        return DataLoader(TensorDataset(numbers, numbers[:, 0]), batch_size=self.hparams.batch_size, **options)

    def train_dataloader(self) -> DataLoader:
        return self.part("train", drop_last=True, shuffle=self.hparams.shuffle)

    def val_dataloader(self) -> DataLoader:
        return self.part("val")


FAULTS = {
    "--data.empty=train": "train_dataloader",
    "--data.batch_size=1000": "train_dataloader",
    "--data.empty=train --data.shuffle=true": "num_samples=0",
    "--data.batch_size=0": "batch_size=0",
    "--data.missing=true": "NaN",
    "--data.empty=val": "val_dataloader",
    "--model.has_loss=false": "Faulty.training_step",
}


@pytest.mark.parametrize("options", FAULTS)
def test_a_fault_of_data_or_step_is_named_in_a_line(options) -> None:
    code, said = answer(Faulty, FaultyData, ["fit", *options.split()], "toy_project")
    assert code == 1, said
    lines = re.findall(r"^(?:error|ValueError): .*", said, re.MULTILINE)
    assert FAULTS[options] in lines[-1]
