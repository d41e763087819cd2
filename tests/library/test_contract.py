"""The names of the contract: each does its work in a run, and each has the form that its Protocol gives it."""

import re
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import contract
from lightning_runs.contract import Contract
from lightning_runs.training.callbacks import Pictures
from PIL import Image
from toy import Toy, ToyData, refused
from written import record, rows

PAGE = (resources.files("lightning_runs") / "docs" / "own-classes.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^## An example of every name\n\n```python\n(.*?)^```", PAGE, flags=re.M | re.S)
sign: Any = ModuleType("sign")
sys.modules["sign"] = sign
exec(EXAMPLE, vars(sign))


class SignData(sign.SignData):
    def fingerprint(self) -> str:
        return f"numbers of seed {self.seed}, part {self.fold} of {self.num_folds}"


PICTURES = f"--trainer.callbacks+={Pictures.__module__}.Pictures"


def test_a_run_uses_every_name_of_the_contract(run) -> None:
    options = ("--seed_everything=5", "--data.fold=2", "--data.num_folds=4", PICTURES)
    assert run("fit", "--run", "a", *options, module=sign.SignModel, data=SignData) == 0
    known = record("a")
    assert known["fingerprint"] == "numbers of seed 5, part 2 of 4"
    assert known["class_names"] == ["below", "above"]
    assert known["headline"] == ["accuracy", "max", "%"]
    assert known["baseline"].keys() == {"always above"}
    pictures = sorted(Path("runs/a/images").iterdir())
    assert [file.name for file in pictures] == ["test_probabilities.png", "val_epoch_000_probabilities.png"]
    assert Image.open(pictures[0]).size == (200, 32)  # of all batches
    page = Path("runs/a/report.html").read_text(encoding="utf-8")
    accuracy = f"<b>{record('a', 'test.json')['test/accuracy']:.2%}</b> test/accuracy"
    for text in ("Confidence", "always above", accuracy, "items per second"):
        assert text in page
    assert run("predict", module=sign.SignModel, data=SignData) == 0
    assert {row["sine"] for row in rows("a", "predictions.csv")} == {"below", "above"}
    for name, number in {"one": "1", "four": "4"}.items():
        Path(name).write_text(number)
    assert run("predict", "four", "one", "--csv", "p.csv", module=sign.SignModel, data=SignData) == 0
    assert Path("p.csv").read_text().splitlines()[1:] == ["four,4.0,below", "one,1.0,above"]


def test_every_name_of_the_classes_is_found() -> None:
    names = {name for role in contract.ROLES[:3] for name in role.__annotations__} | contract.METHODS.keys()
    full = Contract(sign.SignModel, sign.SignData)
    assert {name for name in names if not full.has(name)} == {"num_workers", "class_names"}
    # the page has all but one, which is an argument of every DataLoader
    assert {name for name in names if not re.search(rf"`{name}\b", PAGE)} == {"num_workers"}


@pytest.mark.parametrize("name", sorted(contract.METHODS))
@pytest.mark.parametrize("wrong", ["a text", lambda self, a, b, c, d: None])
def test_a_method_of_another_form_is_refused(name, wrong) -> None:
    with refused(f"Wrong.{name} must be a method with "):
        Contract(type("Wrong", (Toy,), {name: wrong}), ToyData)


@pytest.mark.parametrize("wrong", [("test/loss", "min", ""), ("loss", "lowest", ""), ("loss", "min"), (1, "min", "")])
def test_a_headline_of_another_form_is_refused(wrong) -> None:
    with refused('it must be such as ("accuracy", "max", "%")'):
        Contract(type("Wrong", (Toy,), {"headline": wrong}), ToyData)


@pytest.mark.parametrize("classes", [(torch.nn.Linear, ToyData), (Toy, Toy)])
def test_other_classes_are_refused(classes) -> None:
    with refused("it must be a Lightning"):
        Contract(*classes)


def test_a_link_is_a_plain_value_that_is_read_once() -> None:
    links = {"a": "(1, 'b')"}
    data = SimpleNamespace(num_numbers=torch.tensor(4), trainer_class=pl.Trainer)
    assert contract.linked_value("a", links, None) == (1, "b")
    assert contract.linked_value("num_numbers", links, data) == 4
    assert links == {"a": "(1, 'b')", "num_numbers": "4"}
    with refused("trainer_class", " type"):
        contract.linked_value("trainer_class", links, data)
