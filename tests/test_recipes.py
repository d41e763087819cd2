"""The recipes of the generated README, "Your own data" and "Your own network", done to the letter."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
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


def recipe(project: Path, title: str) -> str:
    """Return the text below a heading of the project's README, up to the next one, in one line."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", readme.split(f"\n## {title}\n")[1].split("\n## ")[0])


def command_in(text: str) -> list[str]:
    """Return the arguments of the first command in a recipe that trains."""
    (found,) = re.findall(rf"``` python -m {PACKAGE} (fit .*?) ```", text)
    return shlex.split(found)


def follow(project: Path, *fit: str) -> None:
    """Train as a recipe says, and then give every command that a user gives next.

    Raises:
        AssertionError: A command failed, or the report has no part on the test.
    """
    results = run(project, [*fit, *SHORT], *NEXT.values(), own=True)
    failed = [f"{name}\n{output}" for name, (code, output) in zip(["fit", *NEXT], results, strict=True) if code]
    assert not failed, "\n".join(failed)
    assert "No report was written" not in results[0][1]
    tested = json.loads((project / "runs" / "own" / "test.json").read_text())
    page = (project / "runs" / "own" / "report.html").read_text(encoding="utf-8")
    assert f"{tested['test/loss']:.4f}" in page


def test_images_in_a_folder_for_each_class_need_no_code(project):
    text = recipe(project, "Your own data")
    assert "train/cat/1.jpg train/dog/1.jpg …" in text
    for split, count in (("train", 40), ("test", 8), ("val", 8)):
        for name, colour in (("cat", (250, 90, 60)), ("dog", (20, 20, 120))):
            folder = project / "data" / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (70 + number, 80), colour).save(folder / f"{number}.jpg")

    follow(project, *command_in(text), "--data.batch_size=16")


def test_any_other_data_needs_its_facts_a_reader_and_a_name(project):
    text = recipe(project, "Your own data")
    source = f"src/{PACKAGE}"
    assert (
        f"in `{source}/datasets.py` add what is known of it to `FACTS` and read its files in `_read_tensors`;" in text
    )
    assert "in `data.py` add its name to the choices of `dataset`." in text
    facts = '"stripes": Facts((1, 6, 6), (0.5,), (0.5,), 0, False, ("across", "down")),'
    change(project / source / "datasets.py", "\nFACTS = {\n", f"\nFACTS = {{\n    {facts}\n")
    reader = """
    if dataset == "stripes":
        return torch.load(root / f"{part}_images.pt"), torch.load(root / f"{part}_labels.pt")
"""
    file = project / source / "datasets.py"
    (head,) = re.findall(r"\ndef _read_tensors\(.*\n(?:    \"\"\".*\"\"\"\n)?", file.read_text(encoding="utf-8"))
    change(file, head, head + reader.removeprefix("\n"))
    change(project / source / "data.py", '"image_folder"]', '"image_folder", "stripes"]')
    write_stripes(project / "data" / "stripes")

    follow(project, "fit", "--data.dataset=stripes", "--data.root=data/stripes")


def write_stripes(folder: Path) -> None:
    """Write images of 6x6 pixels with stripes across or down, in the form that the test's reader reads."""
    folder.mkdir(parents=True)
    stripes = torch.tensor([[0, 255] * 3]).expand(6, 6)
    both = torch.stack([stripes.T, stripes]).to(torch.uint8)
    for part, count in (("train", 200), ("test", 40)):
        labels = torch.arange(count) % 2
        torch.save(both[labels].unsqueeze(1), folder / f"{part}_images.pt")
        torch.save(labels, folder / f"{part}_labels.pt")


def test_a_network_of_ones_own_is_a_class_and_its_name(project):
    text = recipe(project, "Your own network")
    assert f"Write a class in `src/{PACKAGE}/network.py` that takes `input_shape` and `num_classes` first" in text
    (named,) = re.findall(rf"--model.network ({PACKAGE}\.network\.\w+)", text)
    network = """

class OwnNet(nn.Module):
    def __init__(self, input_shape, num_classes: int, hidden_size: int = 16):
        super().__init__()
        channels, height, width = input_shape
        self.hidden = nn.Linear(channels * height * width, hidden_size)
        self.last = nn.Linear(hidden_size, num_classes)

    def forward(self, images):
        return self.last(self.hidden(images.flatten(1)).relu())
"""
    file = project / "src" / PACKAGE / "network.py"
    file.write_text(file.read_text(encoding="utf-8") + network, encoding="utf-8")

    follow(project, *(word.replace(named, f"{PACKAGE}.network.OwnNet") for word in command_in(text)))
