"""Trainings that are prepared, killed and resumed for the tests of this folder."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image
from project import PACKAGE, SMALL
from stress import differences
from test_render import render
from warm import run, shared

# A resume checkpoint before every step, so that it is exact where a kill finds the training.
SAVED = (*SMALL, "--trainer.max_epochs=3", "--save_every_n_steps=1")
# In the second epoch, with a step of it done; an epoch of `SMALL` has three steps.
SECOND_EPOCH = ("on_train_batch_start", "self.global_step == 4")


class PreparationError(RuntimeError):
    """What a test needs could not be made, so that it says nothing; not the failure that it is there to show."""


def bake(folder: Path, **answers: str) -> Path:
    """Bake a project that logs to a CSV file, with other answers where they are given."""
    return render({"logger": "csv", **answers}, folder)


def prepared(project: Path, *commands: list[str], before: str = "", environment: dict[str, str] | None = None) -> str:
    """Run commands that a test needs, and return their output.

    Raises:
        PreparationError: One of them failed.
    """
    results = run(project, *commands, before=before, environment=environment)
    output = "\n".join(text for _, text in results)
    if any(code for code, _ in results):
        raise PreparationError(output)
    return output


def killed(project: Path, arguments: list[str], place: tuple[str, str], before: str = "") -> None:
    """Run a command that is killed at a place.

    Args:
        project: The project's folder.
        arguments: The command.
        place: A hook of the LightningModule, and the condition on ``self`` under which it kills the process.
        before: Python to run first.

    Raises:
        PreparationError: It was not killed.
    """
    command = shared().start(project, [arguments], before=before + killing(*place))
    if command.wait() != -9:
        raise PreparationError(command.output())


def killing(hook: str, condition: str = "True", group: bool = False) -> str:
    """Python that has the process killed by a hook of the LightningModule, or it and those that train with it."""
    return f"""
import os, signal
from {PACKAGE}.module import ImageClassifier
def kill(self, *args, hook=ImageClassifier.{hook}):
    if {condition}:
        {"os.killpg(0, signal.SIGKILL)" if group else "os.kill(os.getpid(), signal.SIGKILL)"}
    return hook(self, *args)
ImageClassifier.{hook} = kill
"""


def unlike_when_resumed(
    project: Path, *options: str, place: tuple[str, str] = SECOND_EPOCH, before: str = ""
) -> list[str]:
    """Train twice, killed the first time and resumed, and return in what the two runs differ.

    Raises:
        AssertionError: The killed run could not be resumed.
    """
    killed(project, ["fit", "--run=killed", *options], place, before)
    [(code, output)] = run(project, ["fit", "--resume=killed"], before=before)
    assert code == 0, output
    prepared(project, ["fit", "--run=whole", *options], before=before)
    return differences(project / "runs" / "whole", project / "runs" / "killed")


def write_images(root: Path, colours: dict[str, tuple[int, int, int]], train: int = 40, test: int = 12) -> None:
    """Write a folder of images of 8x8 pixels: classes, the colour of each, and how many images of each."""
    for name, colour in colours.items():
        for split, count in (("train", train), ("test", test)):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (*colour[:2], i)).save(folder / f"{i:03d}.png")


def callback(name: str, **options: object) -> list[str]:
    """Options that add one of Lightning's callbacks."""
    added = [f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"]
    return added + [f"--trainer.callbacks.{option}={value}" for option, value in options.items()]


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_csv(file: Path) -> list[list[str]]:
    """Read the rows of a CSV file, the header among them."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def told(output: str) -> list[str]:
    """The lines of a command's output from its error on."""
    found = re.search(r"^error: ", output, flags=re.MULTILINE)
    return output[found.start() :].splitlines() if found else []


def is_one_sentence(output: str) -> bool:
    """Whether a command told its error in at most five lines, and no traceback."""
    return 0 < len([line for line in told(output) if line.strip()]) <= 5 and "Traceback" not in output
