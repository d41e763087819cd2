"""The exercises of a course, on the blank start: the code of docs/course.md works in the order in which it stands."""

import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import wandb

PACKAGE = "course_project"
SHORT = ("--run=mine", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1")


@pytest.fixture
def project(bake_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of the blank start, in whose folder the test runs."""
    folder = bake_project({"project_name": "course project", "start": "blank", "logger": "csv", "accelerator": "cpu"})
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "src"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    return folder


def forget_package() -> None:
    """Let Python import the project's modules again, for they have changed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a page that is written in a language; commands have none."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run_script(code: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script in the working folder as ``python exercise.py`` does."""
    Path("exercise.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["exercise.py", *arguments])
    forget_package()
    runpy.run_path("exercise.py", run_name="__main__")
    wandb.finish()  # as the end of a process does; else the next logger joins the run


def test_the_exercises_of_a_course_work_as_the_page_says(project, monkeypatch) -> None:
    package = project / "src" / PACKAGE
    course = package / "course.py"
    page = (project / "docs" / "course.md").read_text(encoding="utf-8")
    *lessons, last = re.split(r"^## .*$", page, flags=re.MULTILINE)[1:]
    num_scripts = 0
    for lesson in lessons:
        commands = re.findall("^python exercise.py (.*)$", lesson, flags=re.MULTILINE)
        for code in blocks(lesson, "python"):
            _, more, methods = code.partition("    ...  # as before\n")
            if more:  # of the class, which is the last in the file; a later method wins
                course.write_text(course.read_text() + methods)
            elif "class MyAwesomeModel" in code:
                course.write_text(code)
            elif code == "import wandb\n":
                course.write_text(code + course.read_text())
            else:
                num_scripts += 1
                run_script(code, shlex.split(commands[0]) if commands else [], monkeypatch)
    assert num_scripts == 6
    assert list(project.glob("runs/bare/models/*.ckpt"))

    (train,) = blocks(last, "python")
    options, monitor = blocks(last, "yaml")
    (package / "train.py").write_text(train)
    config = project / "configs" / "default.yaml"
    text = re.sub(r"^data:\n.*?(?=^trainer:)", f"{options}\n", config.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert "  monitor: val/loss" in text
    assert "  monitor: val_loss" in monitor
    config.write_text(text.replace("  monitor: val/loss", "  monitor: val_loss"))
    (command,) = re.findall(rf"^python -m {PACKAGE} (.*)$", last, flags=re.MULTILINE)
    forget_package()
    assert import_module(f"{PACKAGE}.train").main([*shlex.split(command), *SHORT]) == 0
    assert "test_acc" in json.loads((project / "runs" / "mine" / "test.json").read_text())
    assert list((project / "runs" / "mine").glob("wandb/offline-run-*"))
    forget_package()
