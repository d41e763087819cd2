"""The names of the contract: each does its work in a run, and each has the form that its Protocol gives it."""

import re
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import contract
from lightning_runs.contract import Contract
from lightning_runs.training.callbacks import Pictures
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import Toy, ToyData, refused
from written import record, rows


class FullData(ToyData):
    """A data module with every name of the contract."""

    def __init__(
        self, seed: int = 0, fold: int = 0, num_folds: int = 4, predict_paths: list[str] | None = None
    ) -> None:
        super().__init__()
        self.seed = seed
        self.fold = fold
        self.num_folds = num_folds
        self.predict_paths = predict_paths
        self.class_names = ["below", "above"]

    @property
    def num_numbers(self) -> int:
        return 4

    def predict_dataloader(self) -> DataLoader:
        if self.predict_paths is None:
            return super().predict_dataloader()
        numbers = torch.tensor([[float(Path(path).read_text())] * 4 for path in self.predict_paths])
        return DataLoader(TensorDataset(numbers, numbers[:, 0]), batch_size=1)

    def fingerprint(self) -> str:
        return f"numbers of seed {self.seed}, part {self.fold} of {self.num_folds}"

    def baseline(self) -> dict[str, dict[str, float]]:
        return {"always nought": {"test/loss": 3.5}}


class Full(Toy):
    """A module with every name of the contract."""

    headline = ("loss", "min", "m")

    def __init__(self, num_numbers: int, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.layer = torch.nn.Linear(num_numbers, 1)

    def rows(self, predictions: dict[str, Tensor], data: FullData) -> tuple[list[str], list[list[Any]]]:
        return ["sign"], [[data.class_names[int(value > 0)]] for value in predictions["prediction"]]

    def show(self, outputs: list[Tensor], batch: list[Tensor], data: FullData) -> dict[str, Any]:
        return {"losses": Image.new("L", (len(outputs), len(batch[1])), len(data.class_names))}

    def sections(self, predictions: dict[str, Tensor], data: FullData) -> list[tuple[str, Any]]:
        count = len(predictions["prediction"])
        return [("How many", f"<p>There are {count} sums.</p>"), ("What fails", lambda: 1 / 0)]

    def exported(self) -> torch.nn.Module:
        return self.layer

    def layer_groups(self) -> list[list[torch.nn.Module]]:
        return [[self.layer]]


PICTURES = f"--trainer.callbacks+={Pictures.__module__}.Pictures"


def test_a_run_uses_every_name_of_the_contract(run) -> None:
    options = ("--seed_everything", "5", "--data.fold", "2", PICTURES)
    assert run("fit", "--run", "a", *options, module=Full, data=FullData) == 0
    known = record("a")
    assert known["fingerprint"] == "numbers of seed 5, part 2 of 4"  # seed, fold, num_folds and fingerprint()
    assert known["class_names"] == ["below", "above"]
    assert known["headline"] == ["loss", "min", "m"]
    assert known["linked"] == {"num_numbers": "4"}
    pictures = sorted(Path("runs/a/images").iterdir())
    assert [file.name for file in pictures] == ["test_losses.png", "val_epoch_000_losses.png"]
    picture = Image.open(pictures[0])
    assert (picture.size, picture.getpixel((0, 0))) == ((2, 8), 2)  # both batches, the first one's items, and classes
    assert known["baseline"] == {"always nought": {"test/loss": 3.5}}
    page = Path("runs/a/report.html").read_text(encoding="utf-8")
    loss = f"<b>{record('a', 'test.json')['test/loss']:.4g} m</b> test/loss"
    for text in ("There are 16 sums.", "division by zero", "always nought", loss, "items per second"):
        assert text in page
    assert run("predict", module=Full, data=FullData) == 0
    assert {row["sign"] for row in rows("a", "predictions.csv")} == {"below", "above"}

    Path("minus.txt").write_text("-3")
    Path("plus.txt").write_text("3")
    assert run("predict", "plus.txt", "minus.txt", "--csv", "p.csv", module=Full, data=FullData) == 0
    assert Path("p.csv").read_text().splitlines()[1:] == ["plus.txt,above", "minus.txt,below"]


def test_every_name_of_the_classes_is_found() -> None:
    names = {name for role in contract.ROLES[:3] for name in role.__annotations__} | contract.METHODS.keys()
    plain = {"batch_size", "num_workers"}
    assert {name for name in names if Contract(Toy, ToyData).has(name)} == plain
    assert names - {name for name in names if Contract(Full, FullData).has(name)} == plain | {"class_names"}
    assert Contract(Toy, None).has("seed") is False
    assert Contract(Full, FullData).headline == ("loss", "min", "m")
    assert Contract(Full, FullData).linked == ["num_numbers"]
    assert contract.get("class_names", None, FullData()) == ["below", "above"]
    assert contract.get("exported", Full(4), FullData())() is not None
    assert contract.get("layer_groups", Toy(), ToyData()) is None


def test_the_documentation_has_every_name_of_the_classes() -> None:
    page = (resources.files("lightning_runs") / "docs" / "own-classes.md").read_text(encoding="utf-8")
    names = {name for role in contract.ROLES[:3] for name in role.__annotations__} | contract.METHODS.keys()
    assert {name for name in names if not re.search(rf"`{name}\b", page)} == {"num_workers"}  # as in every DataLoader


@pytest.mark.parametrize("name", sorted(contract.METHODS))
@pytest.mark.parametrize("wrong", ["a text", lambda self, a, b, c, d: None])
def test_a_method_of_another_form_is_refused(name, wrong) -> None:
    with refused(f"Wrong.{name} must be a method with "):
        Contract(type("Wrong", (Toy,), {name: wrong}), ToyData)


@pytest.mark.parametrize("wrong", [("test/loss", "min", ""), ("loss", "lowest", ""), ("loss", "min"), (1, "min", "")])
def test_a_headline_of_another_form_is_refused(wrong) -> None:
    with refused('it must be such as ("accuracy", "max", "%")'):
        Contract(type("Wrong", (Toy,), {"headline": wrong}), ToyData)


class OneFold(ToyData):
    def __init__(self, fold: int = 0) -> None:
        pass


@pytest.mark.parametrize(
    ("module", "data", "text"),
    [
        (torch.nn.Linear, ToyData, "it must be a LightningModule"),
        (Toy, Toy, "it must be a LightningDataModule"),
        (Toy, OneFold, "one of the arguments fold and num_folds"),
    ],
)
def test_other_classes_and_half_of_the_folds_are_refused(module, data, text) -> None:
    with refused(text):
        Contract(module, data)


@pytest.mark.parametrize(
    ("option", "source"),
    [("--data.seed=3", "--seed_everything"), ("--model.num_numbers=3", "the data module's num_numbers")],
)
def test_a_linked_option_cannot_be_set(option, source, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", option, module=Full, data=FullData)
    error = capsys.readouterr().err
    assert option.partition("=")[0] in error
    assert source in error


def test_a_link_is_a_plain_value_that_is_read_once() -> None:
    links = {"a": "(1, 'b')"}
    assert contract.linked_value("a", links, None) == (1, "b")
    assert contract.linked_value("num_numbers", links, FullData()) == 4
    assert links == {"a": "(1, 'b')", "num_numbers": "4"}
    with refused("the data module's trainer_class is a type"):
        contract.linked_value("trainer_class", links, SimpleNamespace(trainer_class=pl.Trainer))
