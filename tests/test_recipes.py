"""The recipes of a generated project's docs, done to the letter: other files, classes of one's own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from project import PACKAGE
from test_ways_in import change
from warm import run

# What a user does next with the run that a recipe's command made.
NEXT = {
    "test": ["test", "--run=own"],
    "validate": ["validate", "--run=own"],
    "predict": ["predict", "--run=own"],
    "runs": ["runs"],
    "report": ["report", "own"],
    "export": ["export", "own"],
}
SHORT = ("--run=own", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1")


@pytest.fixture
def project(bake_project) -> Path:
    return bake_project({"logger": "csv"})


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


def follow(project: Path, *fit: str, refused: dict[str, str] | None = None) -> None:
    """Train as a recipe says, and then give every command that a user gives next.

    Args:
        project: The project.
        fit: The command that trains.
        refused: What a command says that the recipe's classes are not made for.

    Raises:
        AssertionError: A command failed, or the report has no part on the test.
    """
    results = dict(zip(("fit", *NEXT), run(project, [*fit, *SHORT], *NEXT.values(), own=True), strict=True))
    for name, text in (refused or {}).items():
        code, output = results.pop(name)
        assert code == 1, output
        assert text in output
    failed = [f"{name}\n{output}" for name, (code, output) in results.items() if code]
    assert not failed, "\n".join(failed)
    assert "No report was written" not in results["fit"][1]
    loss = json.loads((project / "runs" / "own" / "test.json").read_text())["test/loss"]
    page = (project / "runs" / "own" / "report.html").read_text(encoding="utf-8")
    assert (f"{loss:.4g}" if loss >= 1e-3 else f"{loss:.3g}".replace("e-0", "e-")) in page


def test_images_in_other_files_need_a_function_and_an_entry(project):
    text = recipe(project, "docs/data.md", "Images in other files")
    writer, reader, entry = blocks(text, "python")
    (project / "stripes.py").write_text(writer)
    subprocess.run([sys.executable, "stripes.py"], cwd=project, check=True, timeout=60)
    change(project / "src" / PACKAGE / "datasets.py", "\nFACTS = {\n", f"\n{reader}\n\nFACTS = {{\n{entry}")

    follow(project, *fit_in(text))

    assert "dataset: stripes" in (project / "runs" / "own" / "config.yaml").read_text()


def swap_classes(project: Path, train: str, options: str, monitor: str = "") -> None:
    """Write ``train.py``, and in ``configs/default.yaml`` replace the options of the classes that were there."""
    (project / "src" / PACKAGE / "train.py").write_text(train)
    default = project / "configs" / "default.yaml"
    text, replaced = re.subn(
        r"^data:\n.*?(?=^trainer:)", f"{options}\n", default.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert replaced == 1
    default.write_text(text, encoding="utf-8")
    if monitor:
        (of_checkpoint,) = re.findall(r"^checkpoint:\n((?:  .*\n)+)", monitor, flags=re.MULTILINE)
        change(default, "  monitor: val/loss\n  mode: min\n", of_checkpoint)


def test_classes_of_ones_own_need_their_two_names_and_their_options(project):
    text = recipe(project, "docs/own-code.md", "An example from beginning to end")
    classes, train = blocks(text, "python")
    (options,) = blocks(text, "yaml")
    readme = recipe(project, "README.md", "Classes of your own")
    assert [train] == blocks(readme, "python")
    assert options.replace("\n\n", "\n") == blocks(readme, "yaml")[0]
    (project / "src" / PACKAGE / "mine.py").write_text(classes)
    swap_classes(project, train, options)

    follow(project, *fit_in(text), refused={"export": "Add to WaveModel a method exported()"})


def test_the_example_of_the_contract_uses_every_name_of_it(project):
    text = recipe(project, "docs/own-code.md", "The contract: 13 names")
    names = re.findall(r"`(\w+)", "\n".join(re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)))
    (classes,) = blocks(text, "python")
    assert len(names) == 13
    assert [name for name in names if not re.search(rf"\b{name}\b", classes)] == []
    (project / "src" / PACKAGE / "sign.py").write_text(classes)
    (project / "new.txt").write_text("1\n4\n")
    example = recipe(project, "docs/own-code.md", "An example from beginning to end")
    train, options = blocks(example, "python")[1], blocks(example, "yaml")[0]
    swap_classes(project, train.replace("mine", "sign").replace("Wave", "Sign"), options)

    follow(project, "fit")
    [(code, output)] = run(project, ["predict", "new.txt"], own=True)

    assert code == 0, output
    assert re.search(r"above.*\n.*below", output)
    folder = project / "runs" / "own"
    record = json.loads((folder / "run.json").read_text())
    assert record["fingerprint"] == "1000 numbers from 0 to 6"
    assert record["headline"] == ["accuracy", "max", "%"]
    assert (folder / "predictions.csv").read_text().startswith("number,sine\n")
    assert (folder / "images" / "test_probabilities.png").is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "How sure it is" in page
    assert "always above" in page
