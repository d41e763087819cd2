"""Two commands on one run at the same time: a second `fit` is refused, and no command harms what another one does."""

from __future__ import annotations

import csv
import json
import shutil
import time
from itertools import combinations_with_replacement
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from project import PACKAGE, SMALL
from test_render import render
from warm import Command, run, shared

EPOCHS = 4
FIT = (*SMALL, "--save_every_n_steps=1")
# Of one run, a; where a sweep takes part, of the run that it trains, tune-000.
COMMANDS = {
    "sweep": ["sweep", "tune", "--trials=2", *FIT],
    "fit": ["fit", "--resume=RUN"],
    "test": ["test", "--run=RUN"],
    "report": ["report", "RUN"],
    "export": ["export", "RUN"],
}
# Where each waits for the other one, in the middle of its work.
PLACES = {
    "sweep": ("module", "ImageClassifier", "on_train_epoch_end"),
    "fit": ("module", "ImageClassifier", "on_train_epoch_end"),
    "test": ("module", "ImageClassifier", "on_test_epoch_end"),
    "report": ("runtime.commands", "report", "write"),
    "export": ("runtime.commands", "export", "_compare"),
}
MEET = """
import os, time
from {package}.{module} import {owner} as owner
original = owner.{name}
def wait(*args):
    open("here-{number}", "w").close()
    end = time.monotonic() + 200
    while not os.path.exists("go") and time.monotonic() < end:
        time.sleep(0.02)
    return original(*args)
owner.{name} = wait
"""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a finished run, a, and alone.csv, the metrics of that run when it alone goes on."""
    project = render({"logger": "csv"}, tmp_path_factory.mktemp("at_once"))
    assert run(project, ["fit", "--run=a", *FIT])[0][0] == 0
    folder = project / "runs" / "a"
    shutil.copytree(folder, project / "kept")
    [(code, output)] = run(project, ["fit", "--resume=a", f"--trainer.max_epochs={EPOCHS}"])
    assert code == 0, output
    shutil.move(folder / "metrics.csv", project / "alone.csv")
    shutil.rmtree(folder)
    shutil.move(project / "kept", folder)
    return project


def start(project: Path, name: str, number: int, of: str) -> Command:
    """Start a command, and return when it is in the middle of its work, or has ended."""
    module, owner, place = PLACES[name]
    arguments = [argument.replace("RUN", of) for argument in COMMANDS[name]]
    if name == "fit" and of == "a":
        arguments.append(f"--trainer.max_epochs={EPOCHS}")
    before = MEET.format(package=PACKAGE, module=module, owner=owner, name=place, number=number)
    command = shared().start(project, [arguments], before=before)
    end = time.monotonic() + 200
    while not (project / f"here-{number}").exists() and command.ended() is None:
        assert time.monotonic() < end, command.output()
        time.sleep(0.02)
    return command


CORE = {("sweep", "fit"), ("fit", "fit"), ("fit", "test"), ("report", "export")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(*pair, marks=() if pair in CORE else pytest.mark.slow)
        for pair in combinations_with_replacement(COMMANDS, 2)
    ],
)
def test_two_commands_on_one_run_at_once(trained_once, tmp_path, first, second):
    project = Path(shutil.copytree(trained_once, tmp_path / "project"))
    of = "tune-000" if first == "sweep" else "a"
    commands = [start(project, name, number, of) for number, name in enumerate((first, second))]
    assert (project / "here-0").exists(), commands[0].output()
    (project / "go").touch()
    codes = [command.wait() for command in commands]

    outputs = [command.output() for command in commands]
    refused = second == "fit"
    assert codes == [0, int(refused)], outputs
    assert (f"error: the run {of} is in use: another process trains it." in outputs[1]) == refused
    assert (project / "here-1").exists() != refused
    for folder in (project / "runs").glob("*/"):
        if (folder / "config.yaml").is_file():
            check_whole(folder)
    if first == "fit":
        alone = (project / "alone.csv").read_text(encoding="utf-8")
        assert (project / "runs" / "a" / "metrics.csv").read_text(encoding="utf-8") == alone
    if first == "sweep":
        assert "of 2 complete" in (project / "runs" / "tune" / "best.yaml").read_text(encoding="utf-8")


def check_whole(folder: Path) -> None:
    """Read every file of a finished run."""
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert json.loads((folder / "test.json").read_text(encoding="utf-8"))["test/accuracy"] >= 0
    assert yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["trainer"]
    assert (folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file) if row["val/accuracy"]]
    assert epochs == [str(epoch) for epoch in range(len(epochs))]
    for file in (folder / "checkpoints").glob("*.ckpt"):
        torch.load(file, weights_only=True)
    if (folder / "export").is_dir():
        files = {"model.onnx", "model.pt2", "README.md", "reference.json"}
        assert {file.name for file in (folder / "export").iterdir()} == files
        onnxruntime.InferenceSession(folder / "export" / "model.onnx")
        torch.export.load(folder / "export" / "model.pt2")
    assert [file for file in folder.rglob("*") if file.name.endswith(".tmp") or file.name.startswith(".export")] == []
