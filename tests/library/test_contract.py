"""The names of the contract: each does its work in a run, and each has the form that its Protocol gives it."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import contract
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
        return {"losses": Picture((len(outputs), len(batch[1]), len(data.class_names)))}

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
    # of the outputs of both batches, the first batch of eight items, and the data module
    assert pictures[0].read_text(encoding="utf-8") == "(2, 8, 2)"
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


def test_without_predict_paths_new_files_are_refused(run, capsys) -> None:
    assert run("predict", "plus.txt") == 1
    error = capsys.readouterr().err
    assert "ToyData" in error
    assert "predict_paths" in error


def test_every_name_of_the_classes_is_found() -> None:
    names = {name for role in contract.ROLES[:3] for name in role.__annotations__} | contract.METHODS.keys()
    assert {name for name in names if not Contract(Full, FullData).has(name)} == {"class_names"}  # set in __init__
    assert {name for name in names if Contract(Toy, ToyData).has(name)} == {"batch_size", "num_workers"}
    assert Contract(Toy, None).has("seed") is False
    assert Contract(Full, FullData).headline == ("loss", "min", "m")
    assert Contract(Full, FullData).linked == ["num_numbers"]
    assert contract.get("class_names", None, FullData()) == ["below", "above"]
    assert contract.get("exported", Full(4), FullData())() is not None
    assert contract.get("layer_groups", Toy(), ToyData()) is None


def test_the_documentation_has_a_line_about_every_name() -> None:
    lines = list(contract.describe())
    assert {name.partition("(")[0] for name, _, _ in lines} == contract.NAMES
    assert "rows(predictions, data)" in [name for name, _, _ in lines]
    for name, role, text in lines:
        assert role.endswith("."), name
        assert text.endswith("."), name
        assert "\n" not in role + text, name


@pytest.mark.parametrize("name", sorted(contract.METHODS))
@pytest.mark.parametrize("wrong", ["a text", lambda self, a, b, c, d: None])
def test_a_method_of_another_form_is_refused(name, wrong, run, capsys) -> None:
    assert run("fit", module=type("Wrong", (Toy,), {name: wrong})) == 1
    error = capsys.readouterr().err
    assert f"Wrong.{name} must be a method with " in error
    assert "`python -m toy_project docs own-classes`" in error


@pytest.mark.parametrize(
    "wrong", [("test/loss", "min", ""), ("loss", "lowest", ""), ("loss", "min"), "loss", (1, "min", "")]
)
def test_a_headline_of_another_form_is_refused(wrong) -> None:
    with pytest.raises(UserError, match=r'headline is .*\("accuracy", "max", "%"\)'):
        Contract(type("Wrong", (Toy,), {"headline": wrong}), ToyData)


@pytest.mark.parametrize("name", ["fold", "num_folds"])
def test_one_of_the_two_arguments_for_folds_is_refused(name) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def __init__(self, {name}: int = 0): pass", namespace)
    with pytest.raises(UserError, match="one of the arguments fold and num_folds"):
        Contract(Toy, type("Wrong", (ToyData,), {"__init__": namespace["__init__"]}))


def test_classes_that_are_not_lightning_s_are_refused(run, capsys) -> None:
    assert run("fit", module=torch.nn.Linear) == 1
    assert "it must be a LightningModule" in capsys.readouterr().err
    assert run("fit", data=Toy) == 1
    assert "it must be a LightningDataModule" in capsys.readouterr().err


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


def test_a_link_must_be_a_plain_value(run, capsys) -> None:
    class Odd(ToyData):
        @property
        def num_numbers(self) -> object:
            return torch.nn.Linear(4, 1)

    assert run("fit", module=Full, data=Odd) == 1
    assert "the data module's num_numbers is a Linear" in capsys.readouterr().err


def test_a_link_is_read_once() -> None:
    links = {"a": "(1, 'b')"}
    assert contract.linked_value("a", links, None) == (1, "b")
    assert contract.linked_value("num_numbers", links, FullData()) == 4
    assert links == {"a": "(1, 'b')", "num_numbers": "4"}


def test_a_project_needs_no_data_module(run) -> None:
    loaders = ("loader", "dataset", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
    methods = {name: getattr(ToyData, name) for name in loaders} | {"batch_size": 8, "num_workers": 0}
    module: type[pl.LightningModule] = type("Alone", (Toy,), methods)
    assert run("fit", "--run", "a", module=module, data=None) == 0
    assert run("predict", "--run", "a", module=module, data=None) == 0
    assert len(rows("a", "predictions.csv")) == 16
