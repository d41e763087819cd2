"""The recipes of a project's docs, done to the letter: other files, classes of one's own."""

import re
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from processes import run
from project import LIBRARY, PACKAGE, bake, command, read_json

# What a user does next with the run that a recipe's command made.
NEXT = (["test", "--run=own"], ["validate", "--run=own"], ["predict", "--run=own"], ["runs"], ["report", "own"])
SHORT = ("--run=own", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1")
OWN_CLASSES = "docs/own-classes.md"


@pytest.fixture
def project(once: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of the images project with the default name, as the recipes have it."""
    answers = {"start": "images", "logger": "csv", "accelerator": "cpu"}
    baked = once("default-images-csv", partial(bake, answers=answers)) / "my-lightning-project"
    return Path(shutil.copytree(baked, tmp_path / "project"))


def recipe(project: Path, page: str, title: str) -> str:
    """Return the text below a heading of a page, up to the next one."""
    return (project / page).read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a recipe that is written in a language; commands have none."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def fit_in(text: str) -> list[str]:
    """Return the arguments of the command in a recipe that trains."""
    (found,) = re.findall(rf"^python -m {PACKAGE} (fit.*)$", text, flags=re.MULTILINE)
    return shlex.split(found)


def swap_classes(project: Path, classes: str, train: str, options: str) -> None:
    """Write the classes and ``train.py``, and replace the options of the classes that were there."""
    (name,) = re.findall(r"from \.(\w+) import", train)
    (project / "src" / PACKAGE / f"{name}.py").write_text(classes)
    (project / "src" / PACKAGE / "train.py").write_text(train)
    default = project / "configs" / "default.yaml"
    text, replaced = re.subn(
        r"^data:\n.*?(?=^trainer:)", f"{options}\n", default.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert replaced == 1
    # the shipped callback asks for the classes that were there
    default.write_text(re.sub(rf"^ +- class_path: .{PACKAGE}\.callbacks.*\n(?: {{6,}}.*\n)*", "", text, flags=re.M))


@pytest.fixture
def swapped(project) -> Path:
    """The project after docs/own-classes.md was followed."""
    text = recipe(project, OWN_CLASSES, "From start to end")
    classes, train = blocks(text, "python")
    swap_classes(project, classes, train, blocks(text, "yaml")[0])
    return project


def test_classes_of_ones_own_work_with_every_command(swapped):
    run(swapped, PACKAGE, *fit_in(recipe(swapped, OWN_CLASSES, "From start to end")), *SHORT)
    for arguments in NEXT:
        run(swapped, PACKAGE, *arguments)
    assert "test/loss" in read_json(swapped / "runs" / "own" / "test.json")


def test_the_readme_has_the_same_lines_for_ones_own_classes(project):
    text = recipe(project, OWN_CLASSES, "From start to end")
    readme = recipe(project, "README.md", "Your own classes")
    assert blocks(text, "python")[1:] == blocks(readme, "python")
    assert [part.replace("\n\n", "\n") for part in blocks(text, "yaml")] == blocks(readme, "yaml")


@pytest.mark.slow
def test_tests_of_the_old_classes_fail_by_naming_what_to_delete(swapped):
    done = command(swapped, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_train.py", timeout=600)
    assert done.returncode == 1
    assert "delete tests/test_train.py" in done.stdout


@pytest.mark.slow
def test_the_other_tests_pass_once_those_files_are_gone(swapped):
    for name in ("data", "module"):
        (swapped / "src" / PACKAGE / f"{name}.py").unlink()
    named = command(swapped, "pytest", "-q", "-p", "no:cacheprovider")
    assert named.returncode == 4
    assert re.search(r"Delete tests/test_\w+\.py", named.stdout)
    for file in {*swapped.glob("tests/test_*.py")} - {swapped / "tests" / "test_configs.py"}:
        file.unlink()
    for name in ("overfit", "gpu", "finetune"):
        (swapped / "configs" / f"{name}.yaml").unlink()
    done = command(swapped, "pytest", "-q", "-p", "no:cacheprovider", timeout=600)
    assert done.returncode == 0, done.stdout


def test_the_example_of_every_name_works(project):
    page = (LIBRARY / "lightning_runs" / "docs" / "own-classes.md").read_text(encoding="utf-8")
    (classes,) = blocks(page.split("\n## An example of every name\n")[1].split("\n## ")[0], "python")
    example = recipe(project, OWN_CLASSES, "From start to end")
    train = blocks(example, "python")[1].replace("mine", "sign").replace("Wave", "Sign")
    swap_classes(project, classes, train, blocks(example, "yaml")[0])
    (project / "new.txt").write_text("1\n4\n")

    run(project, PACKAGE, "fit", *SHORT)
    assert re.search(r"above.*\n.*below", run(project, PACKAGE, "predict", "new.txt"))
    run(project, PACKAGE, "predict", "--run=own")
    folder = project / "runs" / "own"
    record = read_json(folder / "run.json")
    assert record["headline"] == ["accuracy", "max", "%"]
    assert record["fingerprint"]
    assert (folder / "predictions.csv").read_text().startswith("number,sine\n")
    assert list((folder / "images").iterdir())
    assert "Confidence" in (folder / "report.html").read_text(encoding="utf-8")
