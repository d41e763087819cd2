"""Runs over seeds and folds: each is trained once, whoever was killed, and their summary is right."""

from functools import partialmethod
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from lightning_runs.commands import repeat
from scipy import stats
from torch.utils.data import DataLoader, Subset, TensorDataset
from toy import Toy, ToyData, assert_fails
from written import record, rows

COUNT = 24  # items that are not tested


class Indexed(Toy):
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        return {"prediction": self.layer(batch[0])[:, 0], "index": batch[2]}


class Folded(ToyData):
    def __init__(self, batch_size: int = 8, fold: int = 0, num_folds: int | None = None) -> None:
        super().__init__(batch_size)
        self.fold = fold
        self.num_folds = num_folds

    def part(self, is_validation: bool) -> DataLoader:
        numbers = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
        every = TensorDataset(numbers, numbers.sum(dim=1), torch.arange(COUNT))
        items = [i for i in range(COUNT) if (i % (self.num_folds or 4) == self.fold) == is_validation]
        return DataLoader(Subset(every, items), batch_size=self.batch_size, shuffle=not is_validation)

    train_dataloader = partialmethod(part, False)  # pyright: ignore
    val_dataloader = partialmethod(part, True)  # pyright: ignore
    predict_dataloader = partialmethod(part, True)  # pyright: ignore

    def test_dataloader(self) -> DataLoader:
        raise AssertionError("a fold reads the test data")


def check_summary(printed: str, values: list[float], folds: bool) -> None:
    assert len(set(values)) == len(values)
    for label, value in zip(repeat.SUMMARY, repeat.summary(values, folds), strict=True):
        (line,) = [line for line in printed.splitlines() if line.startswith(label)]
        assert [float(cell) for cell in line.removeprefix(label).split()] == pytest.approx([value], abs=1e-4)


@pytest.mark.parametrize(("folds", "correction"), [(False, 1), (True, 1 + 5 / 4)])
def test_the_interval_is_student_s_corrected_for_folds(folds, correction) -> None:
    values = [0.81, 0.85, 0.84, 0.9, 0.79]
    expected = stats.t.interval(0.95, 4, fmean(values), stdev(values) * (correction / 5) ** 0.5)
    assert repeat.summary(values, folds) == pytest.approx((fmean(values), stdev(values), *expected), abs=1e-9)
    assert all(value != value for value in repeat.summary([0.5, float("inf")], folds))


def test_each_seed_is_tested_and_more_seeds_are_added(run, capsys) -> None:
    assert run("repeat", "--seeds=2") == 0
    capsys.readouterr()
    assert run("repeat", "--seeds=3") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if " starts: " in line] == ["repeat-seed-3"]
    check_summary(printed, [record(f"repeat-seed-{seed}", "test.json")["test/loss"] for seed in (1, 2, 3)], False)
    assert repeat.SUMMARY[-1] in Path("runs/repeat/repeat.html").read_text(encoding="utf-8")


def test_folds_are_validated_and_predict_the_rest(run, capsys) -> None:
    assert run("repeat", "cross", "--folds=3", module=Indexed, data=Folded) == 0
    values = [record(f"cross-fold-{fold}", "validate.json")["val/loss"] for fold in range(3)]
    check_summary(capsys.readouterr().out, values, True)
    table = rows("cross", "out_of_fold.csv")
    assert [(int(row["index"]), int(row["fold"])) for row in table] == [(i, i % 3) for i in range(COUNT)]


def test_predictions_that_are_not_out_of_fold_are_not_kept(run, capsys, monkeypatch) -> None:
    assert run("repeat", "--folds=2", data=Folded) == 0
    assert "no out_of_fold.csv: predict_step returns no index" in capsys.readouterr().out
    monkeypatch.setattr(Folded, "predict_dataloader", Folded.train_dataloader)
    assert_fails("folds 0 and 1 both predicted item ", "repeat", "twice", "--folds=3", module=Indexed, data=Folded)


@pytest.mark.parametrize(
    ("options", "data", "named"),
    [
        (["--folds=1"], Folded, "--folds is 1"),
        (["--folds=2", "--data.fold=1"], Folded, "--data.fold=1"),
        (["--folds=2"], ToyData, "ToyData"),
    ],
)
def test_a_wrong_option_is_named_before_a_run(options: list[str], data: type, named: str) -> None:
    assert_fails(named, "repeat", *options, data=data)
    assert not Path("runs").exists()
