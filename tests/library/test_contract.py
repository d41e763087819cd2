from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import commands, contract
from lightning_runs.contract import Contract
from lightning_runs.errors import UserError
from lightning_runs.training.callbacks import Pictures
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import Toy, ToyData
from written import record, rows


class Picture(tuple):
    """Stands in for a PIL image, for Pillow is no dependency of every project."""

    def save(self, file: Path) -> None:
        file.write_text(str(tuple(self)), encoding="utf-8")


class FullData(ToyData):
    """A data module with every name of the contract."""

    def __init__(
        self,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        fold: int = 0,
        num_folds: int = 4,
        predict_paths: list[str] | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.seed = seed
        self.fold, self.num_folds = fold, num_folds
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
        return {"losses": Picture((len(outputs), len(batch[1]), len(data.class_names)))}

    def sections(self, predictions: dict[str, Tensor], data: FullData) -> list[tuple[str, Any]]:
        count = len(predictions["prediction"])
        return [("How many", f"<p>There are {count} sums.</p>"), ("What fails", lambda: 1 / 0)]

    def exported(self) -> torch.nn.Module:
        return self.layer

    def layer_groups(self) -> list[list[torch.nn.Module]]:
        return [[self.layer]]


PICTURES = f"--trainer.callbacks+={Pictures.__module__}.Pictures"


def test_a_run_is_given_what_the_classes_tell(run) -> None:
    options = ("--seed_everything", "5", "--data.fold", "2", PICTURES)
    assert run("fit", "--run", "a", *options, module=Full, data=FullData) == 0
    known = record("a")
    assert known["fingerprint"] == "numbers of seed 5, part 2 of 4"  # seed, fold, num_folds and fingerprint()
    assert known["class_names"] == ["below", "above"]
    assert known["headline"] == ["loss", "min", "m"]
    assert known["linked"] == {"num_numbers": "4"}
    pictures = sorted(Path("runs/a/images").iterdir())
    assert [file.name for file in pictures] == ["test_losses.png", "val_epoch_000_losses.png"]
    # of the outputs of both batches, the first batch of eight items, and the data module
    assert pictures[0].read_text(encoding="utf-8") == "(2, 8, 2)"
    if True:
        assert known["baseline"] == {"always nought": {"test/loss": 3.5}}
        page = Path("runs/a/report.html").read_text(encoding="utf-8")
        for text in ("There are 16 sums.", "ZeroDivisionError: division by zero", "always nought"):
            assert text in page
    assert run("predict", module=Full, data=FullData) == 0
    assert {row["sign"] for row in rows("a", "predictions.csv")} == {"below", "above"}

    Path("minus.txt").write_text("-3")
    Path("plus.txt").write_text("3")
    assert run("predict", "plus.txt", "minus.txt", "--csv", "p.csv", module=Full, data=FullData) == 0
    (name, first), (other, second) = (line.split(",") for line in Path("p.csv").read_text().splitlines()[1:])
    assert (name, other) == ("plus.txt", "minus.txt")
    assert (first, second) == ("above", "below")  # of the module's own rows


def test_a_data_module_that_takes_no_paths_is_told_how(run, capsys) -> None:
    assert run("predict", "plus.txt") == 1
    error = capsys.readouterr().err
    assert "ToyData" in error
    assert "predict_paths" in error


def test_every_name_of_the_contract_is_found() -> None:
    full, plain = Contract(Full, FullData), Contract(Toy, ToyData)
    assert len(contract.NAMES) == 13
    assert {name for name in contract.NAMES if full.has(name)} == set(contract.NAMES) - {"class_names"}
    assert not any(plain.has(name) for name in contract.NAMES)
    assert full.linked == ["num_numbers"]
    assert contract.get("class_names", None, FullData()) == ["below", "above"]
    assert contract.get("exported", Full(4), FullData())() is not None
    assert contract.get("layer_groups", Toy(), ToyData()) is None


@pytest.mark.parametrize(("name", "count"), sorted(contract.METHODS.items()))
def test_a_method_of_another_form_is_refused(name, count) -> None:
    ending = f"must be a method with {count} argument"
    for wrong in ("a text", lambda self, a, b, c, d: None):
        module = type("Wrong", (Toy,), {name: wrong})
        with pytest.raises(UserError, match=rf"Wrong\.{name} {ending}"):
            Contract(module, ToyData)


@pytest.mark.parametrize("wrong", [("test/loss", "min", ""), ("loss", "lowest", "")])
def test_a_headline_of_another_form_is_refused(wrong) -> None:
    with pytest.raises(UserError, match="it must be a metric's name without a split, max or min, and a unit"):
        Contract(type("Wrong", (Toy,), {"headline": wrong}), ToyData)


@pytest.mark.parametrize(("there", "missing"), [("fold", "num_folds"), ("num_folds", "fold")])
def test_one_argument_of_two_for_folds_is_refused(there, missing, run, capsys) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def __init__(self, {there}: int = 0): pass", namespace)
    data = type("Wrong", (ToyData,), {"__init__": namespace["__init__"]})
    assert run("fit", data=data) == 1
    assert f"the data module has the argument {there}, but not {missing}" in capsys.readouterr().err


def test_what_is_no_lightning_class_is_refused(run, capsys) -> None:
    assert run("fit", module=torch.nn.Linear) == 1
    assert "it must be a LightningModule" in capsys.readouterr().err
    assert run("fit", data=Toy) == 1
    assert "it must be a LightningDataModule" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--data.seed=3", "--data.seed can't be set: it follows --seed_everything."),
        ("--model.num_numbers=3", "--model.num_numbers can't be set: it follows the data module's num_numbers."),
    ],
)
def test_what_follows_something_else_cannot_be_set(option, text, run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("fit", option, module=Full, data=FullData)
    assert text in capsys.readouterr().err


def test_a_link_must_be_a_plain_value(run, capsys) -> None:
    class Odd(ToyData):
        @property
        def num_numbers(self) -> object:
            return torch.nn.Linear(4, 1)

    assert run("fit", module=Full, data=Odd) == 1
    assert "the data module's num_numbers is a Linear. It fills an argument of the model" in capsys.readouterr().err


class FailsToDraw(Toy):
    def show(self, outputs: list[Any], batch: Any, data: Any) -> dict[str, Any]:
        raise RuntimeError("no paper")


def test_a_picture_that_cannot_be_drawn_ends_no_run(run) -> None:
    with pytest.warns(UserWarning, match=r"show\(\) failed, and no picture is logged: RuntimeError: no paper"):
        assert run("fit", "--run", "a", PICTURES, module=FailsToDraw) == 0
    assert not Path("runs/a/images").exists()


def test_a_project_needs_no_data_module(run) -> None:
    loaders = ("loader", "dataset", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
    methods = {name: getattr(ToyData, name) for name in loaders} | {"batch_size": 8, "num_workers": 0}
    module: type[pl.LightningModule] = type("Alone", (Toy,), methods)
    assert run("fit", "--run", "a", module=module, data=None) == 0
    assert run("predict", "--run", "a", module=module, data=None) == 0
    assert len(rows("a", "predictions.csv")) == 16
