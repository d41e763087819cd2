"""Two commands on one run at the same time: a second `fit` is refused, and no command harms what another one does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import Command, classes_folder, run, wait_for, write_yaml
from project import read_json

PROGRAM = ("own_classes", "classifier", "plain_data")
EPOCHS = "--trainer.max_epochs=4"
# Of one run, a; where a sweep takes part, of the run that it trains. Each waits where its method is called first.
COMMANDS = {
    "sweep": (["sweep", "tune", "--trials=2"], "training_step"),
    "fit": (["fit", "--resume=RUN", EPOCHS], "training_step"),
    "test": (["test", "--run=RUN"], "test_step"),
    "report": (["report", "RUN"], "predict_step"),
    "predict": (["predict", "--run=RUN"], "predict_step"),
}
PAIRS = [("sweep", "fit"), ("fit", "fit"), ("fit", "test"), ("predict", "report"), ("test", "test"), ("sweep", "sweep")]


def train(folder: Path) -> None:
    """Train a run, and beside it one that goes on alone."""
    classes_folder(folder, "val_loss")
    space = {"metric": "val_loss", "direction": "minimize", "space": {"model.hidden_dim": {"choices": [8, 16]}}}
    write_yaml(folder / "configs" / "sweep.yaml", space)
    run(folder, *PROGRAM, "fit", "--run=a")
    shutil.copytree(folder / "runs" / "a", folder / "alone")
    run(folder, *PROGRAM, "fit", "--resume=a", EPOCHS)
    (folder / "alone.csv").write_bytes((folder / "runs" / "a" / "metrics.csv").read_bytes())
    shutil.rmtree(folder / "runs" / "a")
    (folder / "alone").rename(folder / "runs" / "a")


def start(folder: Path, name: str, trained: str) -> Command:
    """Start a command, and return when it is in the middle of its work, or has ended."""
    arguments, place = COMMANDS[name]
    given = [argument.replace("RUN", trained) for argument in arguments]
    command = Command(folder, *PROGRAM, *given, hold=("own_classes.classifier", place, 1))
    wait_for(lambda: held(folder, command) or command.exit_code() is not None, [command])
    return command


def held(folder: Path, command: Command) -> bool:
    return (folder / f"held-{command.pid}").exists()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_commands_on_one_run_do_each_other_no_harm(first, second, once: Callable[..., Path], tmp_path):
    folder = Path(shutil.copytree(once("at-once", train), tmp_path / "copy", symlinks=True))
    trained = "tune-000" if first == "sweep" else "a"
    commands = [start(folder, name, trained) for name in (first, second)]
    refused = second in ("fit", "sweep")
    assert held(folder, commands[0]), commands[0].output()
    (folder / "go").touch()

    assert [command.wait() for command in commands] == [0, int(refused)], commands[1].output()
    assert (" is in use" in commands[1].output()) == refused
    for file in (folder / "runs").glob("*/run.json"):
        check_whole(file.parent)
    if first == "fit":
        assert (folder / "runs" / "a" / "metrics.csv").read_bytes() == (folder / "alone.csv").read_bytes()
    if first == "sweep":
        assert len(list((folder / "runs").glob("tune-*/run.json"))) == 2


def check_whole(folder: Path) -> None:
    """Read the files of a finished run."""
    assert read_json(folder / "run.json")["status"] == "finished"
    assert read_json(folder / "test.json")["test_loss"] >= 0
    assert (folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    for file in (folder / "checkpoints").glob("*.ckpt"):
        torch.load(file, weights_only=True)
    assert list(folder.rglob("*.tmp")) == []
