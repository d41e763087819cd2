"""A project's docs, done to the letter: classes of one's own, the exercises of a course, the notebook."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Command, run
from project import PACKAGE, ROOT, STARTS, change, clean_environment, own_tests, read_json

SHORT = ("--run=own", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1")
OWN_CLASSES = "docs/own-classes.md"


@pytest.fixture
def project(bake_project: Callable[..., Path]) -> Path:
    """The images project with the default name, as the recipes have it."""
    return bake_project({"start": "images", "logger": "csv", "accelerator": "cpu"})


def recipe(project: Path, page: str, title: str) -> str:
    """Return the text below a heading of a page, up to the next one."""
    return (project / page).read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a text that is written in a language; commands have none."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def swap_classes(project: Path, classes: str, train: str, options: str) -> None:
    """Write the classes and ``train.py``, and replace the options of the classes that were there."""
    name = re.findall(r"from \.(\w+) import", train)[0]
    (project / "src" / PACKAGE / f"{name}.py").write_text(classes)
    (project / "src" / PACKAGE / "train.py").write_text(train)
    default = project / "configs" / "default.yaml"
    text = default.read_text(encoding="utf-8")
    text = re.sub(r"^data:\n.*?(?=^trainer:)", f"{options}\n", text, flags=re.MULTILINE | re.DOTALL)
    # the shipped callback asks for the classes that were there
    default.write_text(re.sub(rf"^ +- class_path: .{PACKAGE}\.callbacks.*\n(?: {{6,}}.*\n)*", "", text, flags=re.M))


@pytest.fixture
def swapped(project) -> Path:
    """The project after docs/own-classes.md was followed."""
    text = recipe(project, OWN_CLASSES, "From start to end")
    classes, train = blocks(text, "python")
    swap_classes(project, classes, train, blocks(text, "yaml")[0])
    return project


def test_the_lines_of_the_first_page_train(bake_project):
    project = bake_project({"start": "blank", "logger": "csv", "accelerator": "cpu"})
    for code in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python"):
        (name,) = re.findall(r"\A# (\w+\.py)\n", code)
        (project / "src" / PACKAGE / name).write_text(code)
    default = project / "configs" / "default.yaml"
    default.write_text(default.read_text(encoding="utf-8").replace("  dropout: 0.1\n", ""))  # it has no such argument
    run(project, PACKAGE, "fit", "--model.hidden_size=256", *SHORT)
    assert read_json(project / "runs" / "own" / "run.json")["status"] == "finished"


def test_classes_of_ones_own_work_with_every_command(swapped):
    text = recipe(swapped, OWN_CLASSES, "From start to end")
    (fit,) = re.findall(rf"^python -m {PACKAGE} (fit.*)$", text, flags=re.MULTILINE)
    run(swapped, PACKAGE, *shlex.split(fit), *SHORT)
    # what a user does next with the run
    for arguments in (["test", "--run=own"], ["validate", "--run=own"], ["predict", "--run=own"], ["report", "own"]):
        run(swapped, PACKAGE, *arguments)
    assert "test/loss" in read_json(swapped / "runs" / "own" / "test.json")


def test_the_readme_has_the_same_lines_for_ones_own_classes(project):
    text = recipe(project, OWN_CLASSES, "From start to end")
    readme = recipe(project, "README.md", "Your own classes")
    assert blocks(text, "python")[1:] == blocks(readme, "python")
    assert [part.replace("\n\n", "\n") for part in blocks(text, "yaml")] == blocks(readme, "yaml")


@pytest.mark.slow
def test_own_tests_the_old_classes_fail_by_naming_what_to_delete(swapped):
    for name in ("data", "module"):
        (swapped / "src" / PACKAGE / f"{name}.py").unlink()
    said = own_tests(swapped, status=2)
    assert {*re.findall(r"delete tests/test_(\w+)\.py", said)} == {"data", "module", "train"}
    for file in {*swapped.glob("tests/test_*.py")} - {swapped / "tests" / "test_configs.py"}:
        file.unlink()
    for name in ("overfit", "gpu", "finetune"):
        (swapped / "configs" / f"{name}.yaml").unlink()
    own_tests(swapped)
    change(swapped / "src" / PACKAGE / "mine.py", "class WaveModel", "class Wave")
    assert re.search(r"'WaveModel'.* in train\.py", own_tests(swapped, status=4))


def test_the_exercises_of_a_course_work_as_the_page_says(bake_project):
    project = bake_project({"start": "blank", "logger": "csv", "accelerator": "cpu"})
    course = project / "src" / PACKAGE / "course.py"
    page = (project / "docs" / "course.md").read_text(encoding="utf-8")
    *lessons, last = re.split(r"^## .*$", page, flags=re.MULTILINE)[1:]
    num_scripts = 0
    for lesson in lessons:
        arguments = re.findall("^python exercise.py (.*)$", lesson, flags=re.MULTILINE) or [""]
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
                (project / "exercise.py").write_text(code)
                command = Command(
                    project, "exercise", *shlex.split(arguments[0]), environment={"WANDB_MODE": "offline"}
                )
                assert command.wait() == 0, command.output()
    assert num_scripts == 6
    assert list(project.glob("runs/bare/models/*.ckpt"))

    (train,) = blocks(last, "python")
    swap_classes(project, course.read_text(), train, blocks(last, "yaml")[0])
    config = project / "configs" / "default.yaml"
    config.write_text(config.read_text().replace("  monitor: val/loss", "  monitor: val_loss"))
    (fit,) = re.findall(rf"^python -m {PACKAGE} (.*)$", last, flags=re.MULTILINE)
    run(project, PACKAGE, *shlex.split(fit), *SHORT)
    assert "test_acc" in read_json(project / "runs" / "own" / "test.json")
    assert list((project / "runs" / "own").glob("wandb/offline-run-*"))


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_the_notebook_runs_from_its_folder(start, bake_project):
    import nbclient
    import nbformat

    project = bake_project({"start": start, "logger": "csv"})
    file = project / "notebooks" / "start.ipynb"
    notebook = nbformat.read(file, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    folder = {"metadata": {"path": str(file.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute(env=clean_environment(project))
    assert list((project / "runs").glob("*/run.json"))
    assert not (file.parent / "runs").exists()
