"""The front that a project begins with: every command works with it, and a page leads through a course's exercises."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from project import PACKAGE, TASKS, clean_environment
from stress import DDP, differences
from test_own_classes import kill_after
from test_recipes import blocks, fit_in, recipe, swap_classes
from test_render import render
from test_ways_in import change
from warm import run, shared

ANSWERS = {"dataset": "own", "logger": "csv"}
SHORT = ("--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1")
OVERLAYS = ("quick", "overfit", "profile")
SAVES = "--save_every_n_steps=4"
COMMANDS = {
    "fit": ["fit", "--run=whole", SAVES, *SHORT],
    "test": ["test"],
    "validate": ["validate"],
    "predict": ["predict"],
    "runs": ["runs"],
    "report": ["report", "whole"],
    "export": ["export"],
    "sweep": ["sweep", "--trials=1", *SHORT],
    **{
        name: ["fit", "-c", f"configs/{name}.yaml", f"--run={name}", *SHORT] for name in ("quick", "overfit", "profile")
    },
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """A project of the smallest front, and what each command answered."""
    project = render(ANSWERS, tmp_path_factory.mktemp("own"))
    return project, dict(zip(COMMANDS, run(project, *COMMANDS.values(), own=True), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works_with_the_smallest_front(own, command):
    code, output = own[1][command]

    assert code == 0, output
    assert "Traceback" not in output


def test_an_export_of_the_smallest_front_is_compared_with_the_trainer_s_predictions(own):
    assert re.search(r"Trainer.*: largest difference of probabilities .*, 0 of 360 labels differ", own[1]["export"][1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "DigitsDataModule can't be given paths. Add to the data module's __init__ an argument predict_paths, "),
        (["--onnx=runs/whole/export/model.onnx"], "predict --onnx needs a function read(paths, facts), which __main__"),
    ],
    ids=["by a run", "by an export"],
)
def test_new_files_are_refused_by_what_has_to_be_added(own, options, says):
    [(code, output)] = run(own[0], ["predict", "new.png", *options], own=True)

    assert code == 1
    assert f"error: {says}" in output
    assert "Traceback" not in output


def test_a_run_of_the_smallest_front_that_is_killed_and_resumed_ends_like_one_that_was_left_alone(own):
    project, _ = own
    kill_after(11, project, ["fit", "--run=killed", SAVES, *SHORT, "--data.num_workers=2"])
    kill_after(19, project, ["fit", "--resume=killed"])
    [(code, output)] = run(project, ["fit", "--resume=killed"], own=True)

    assert code == 0, output
    assert differences(project / "runs" / "whole", project / "runs" / "killed") == []


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_the_smallest_front_trains_and_predicts_in_every_precision_of_a_cpu(own, precision):
    project, _ = own
    fit = ["fit", f"--run={precision}", "--trainer.precision", precision, *SHORT, "--trainer.max_epochs=5"]
    answers = run(project, fit, ["predict", f"--run={precision}"], own=True)

    assert [code for code, _ in answers] == [0, 0], answers
    assert json.loads((project / "runs" / precision / "test.json").read_text())["test/accuracy"] > 0.7


def test_two_processes_share_the_digits_and_predict_each_once(own):
    project, _ = own
    for command in (["fit", "--run=two", *DDP, "--trainer.max_epochs=1"], ["predict", "--run=two"]):
        process = shared(own=True).start(project, [command], processes=2)
        assert process.wait() == 0, process.output()

    assert torch.load(project / "runs" / "two" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 11
    with (project / "runs" / "two" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == list(range(360))


# Others' code may import what is installed, such as torchmetrics matplotlib, and that Pillow.
_WITHOUT = f"""
import builtins, runpy, sys

def only_others(name, globals=None, *rest, real=__import__, **named):
    if name.split(".")[0] in ("PIL", "torchvision") and (globals or {{}}).get("__name__", "").startswith({PACKAGE!r}):
        raise ModuleNotFoundError(f"No module named {{name}}")
    return real(name, globals, *rest, **named)

builtins.__import__ = only_others
runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
"""


def test_a_project_that_is_not_of_images_needs_neither_torchvision_nor_pillow(tmp_path):
    project = render(ANSWERS, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, "fit", "--run=alone", *SHORT],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "runs" / "alone" / "report.html").is_file()
    assert "No report was written" not in done.stdout


def test_the_digits_of_every_front_are_the_same():
    files = list(TASKS.glob("*/src/*/digits.npz"))
    assert len(files) > 1
    assert len({file.read_bytes() for file in files}) == 1


def test_the_exercises_of_a_course_work_as_the_page_says(tmp_path):
    project = render(ANSWERS, tmp_path)
    course, scripts = project / "src" / PACKAGE / "course.py", 0
    text = (project / "docs" / "course.md").read_text(encoding="utf-8")
    page = "docs/course.md"
    *lessons, last = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    for title in lessons:
        for code in blocks(recipe(project, page, title), "python"):
            _, more, methods = code.partition("    ...  # as before\n")
            if more:  # of the class, which is the last in the file; a later method wins
                course.write_text(course.read_text() + methods)
            elif "class MyAwesomeModel" in code:
                course.write_text(code)
            elif code == "import wandb\n":
                course.write_text(f"{code}{course.read_text()}")
            else:
                scripts += 1
                given = re.findall("^python exercise.py (.*)$", recipe(project, page, title), flags=re.MULTILINE)
                exercise(project, code, shlex.split(given[0]) if given else [])
    assert scripts == 6
    assert list((project / "runs" / "bare" / "models").glob("*.ckpt"))

    section = recipe(project, page, last)
    options, monitor = blocks(section, "yaml")
    (train,) = blocks(section, "python")
    swap_classes(project, train, options, monitor)
    change(project / "configs" / "default.yaml", "  monitor: val/loss #", "  monitor: val_loss #")
    [(code, output)] = run(
        project, [*fit_in(section), "--run=mine", *SHORT], own=True, environment={"WANDB_MODE": "offline"}
    )
    assert code == 0, output
    assert list((project / "runs" / "mine").glob("wandb/offline-run-*"))


def exercise(project: Path, code: str, arguments: list[str]) -> None:
    """Run a script in the project's folder as ``python exercise.py`` does, in a process that has torch imported."""
    (project / "exercise.py").write_text(code)
    before = (
        f"import runpy, sys\nsys.path[1:1] = [{str(project / 'src')!r}]; sys.argv = ['exercise.py', *{arguments!r}]\n"
        "runpy.run_path('exercise.py', run_name='__main__')\nsys.exit()"
    )
    process = shared(own=True).start(project, [[]], before=before, environment={"WANDB_MODE": "offline"})
    assert process.wait() == 0, process.output()
