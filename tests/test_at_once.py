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
# Of one run; where a sweep takes part, of the run that it trains. Each waits where its method is called first.
COMMANDS = {
    "sweep": ("sweep tune --trials=2", "training_step"),
    "fit": (f"fit --resume=RUN {EPOCHS}", "training_step"),
    "test": ("test --run=RUN", "test_step"),
    "report": ("report RUN", "predict_step"),
    "predict": ("predict --run=RUN", "predict_step"),
}
PAIRS = [("sweep", "fit"), ("fit", "fit"), ("fit", "test"), ("predict", "report"), ("test", "test"), ("sweep", "sweep")]


def train(folder: Path) -> None:
    """Train a run, and resume a copy of it alone."""
    classes_folder(folder, "val_loss")
    space = {"metric": "val_loss", "direction": "minimize", "space": {"model.hidden_dim": {"choices": [8, 16]}}}
    write_yaml(folder / "configs" / "sweep.yaml", space)
    run(folder, *PROGRAM, "fit", "--run=a")
    shutil.copytree(folder / "runs" / "a", folder / "runs" / "alone")
    run(folder, *PROGRAM, "fit", "--resume=alone", EPOCHS)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_commands_on_one_run_do_each_other_no_harm(first, second, once: Callable[..., Path], tmp_path):
    folder = Path(shutil.copytree(once("at-once", train), tmp_path / "copy", symlinks=True))
    runs = folder / "runs"
    trained = "tune-000" if first == "sweep" else "a"
    commands = []
    for name in (first, second):
        words, place = COMMANDS[name]
        hold = ("own_classes.classifier", place, 1)
        command = Command(folder, *PROGRAM, *words.replace("RUN", trained).split(), hold=hold)
        held = folder / f"held-{command.pid}"
        # in the middle of its work, or ended
        wait_for(lambda held=held, command=command: held.exists() or command.exit_code() is not None, [command])
        commands.append(command)
    refused = second in ("fit", "sweep")
    (folder / "go").touch()

    assert [command.wait() for command in commands] == [0, int(refused)], commands[1].output()
    assert (" is in use" in commands[1].output()) == refused
    for file in runs.glob("*/run.json"):
        assert read_json(file)["status"] == "finished"
        assert read_json(file.parent / "test.json")["test_loss"] >= 0
        assert (file.parent / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
        for checkpoint in (file.parent / "checkpoints").iterdir():
            torch.load(checkpoint, weights_only=True)
    if first == "fit":
        assert (runs / "a" / "metrics.csv").read_bytes() == (runs / "alone" / "metrics.csv").read_bytes()
    if first == "sweep":
        assert len(list(runs.glob("tune-*/run.json"))) == 2
