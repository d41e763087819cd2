"""Runs over seeds and folds: each is trained once, whoever was killed, and their summary is right."""

from functools import partialmethod
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
import yaml
from killed import kill
from lightning_runs.commands import repeat
from scipy import stats
from torch.utils.data import DataLoader, Subset, TensorDataset
from toy import Toy, ToyData
from written import record, rows

COUNT = 24  # items that are not tested


class Indexed(Toy):
    """Returns the index of each item that it predicts."""

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        """Return the predictions and the index."""
        return {"prediction": self.layer(batch[0])[:, 0], "index": batch[2]}


class Folded(ToyData):
    """Validates every ``num_folds``-th item, and has test data that must not be read."""

    def __init__(self, batch_size: int = 8, fold: int = 0, num_folds: int | None = None) -> None:
        super().__init__(batch_size)
        self.fold = fold
        self.num_folds = num_folds

    def part(self, is_validation: bool) -> DataLoader:
        """The items of one of two parts."""
        numbers = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
        every = TensorDataset(numbers, numbers.sum(dim=1), torch.arange(COUNT))
        items = [i for i in range(COUNT) if (i % (self.num_folds or 4) == self.fold) == is_validation]
        return DataLoader(Subset(every, items), batch_size=self.batch_size, shuffle=not is_validation)

    train_dataloader = partialmethod(part, False)  # pyright: ignore
    val_dataloader = partialmethod(part, True)  # pyright: ignore
    predict_dataloader = partialmethod(part, True)  # pyright: ignore

    def test_dataloader(self) -> DataLoader:
        """Must not be called."""
        raise AssertionError("a fold reads the test data")


class Overlapping(Folded):
    """Predicts the items that it was trained on."""

    predict_dataloader = partialmethod(Folded.part, False)


def cells(printed: str, label: str) -> list[float]:
    """The numbers of a row of the printed table."""
    (line,) = [line for line in printed.split("summary\n")[1].splitlines() if line.startswith(label)]
    return [float(cell) for cell in line.removeprefix(label).split()]


def test_the_interval_is_student_s_and_that_of_folds_is_corrected() -> None:
    values = [0.81, 0.85, 0.84, 0.9, 0.79]
    mean, deviation, low, high = repeat.summary(values, folds=False)
    assert (mean, deviation) == (fmean(values), stdev(values))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, mean, deviation / 5**0.5), abs=1e-9)
    folds = repeat.summary(values, folds=True)
    assert folds[:2] == (mean, deviation)
    assert folds[3] - mean == pytest.approx((high - mean) * (1 + 5 / 4) ** 0.5)
    assert mean - folds[2] == pytest.approx(folds[3] - mean)
    assert all(value != value for value in repeat.summary([0.5, float("inf")], folds=False))


def test_each_seed_is_tested_and_more_seeds_are_added(run, capsys) -> None:
    assert run("repeat", "--seeds=2") == 0
    before = record("repeat-seed-1")
    capsys.readouterr()
    assert run("repeat", "--seeds=3") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if " starts: " in line] == ["repeat-seed-3"]
    assert record("repeat-seed-1") == before
    assert before["command"].endswith("fit --seed_everything=1 --run=repeat-seed-1 --resume")
    names = [f"repeat-seed-{seed}" for seed in (1, 2, 3)]
    values = [record(name, "test.json")["test/loss"] for name in names]
    assert len(set(values)) == 3
    for label, value in zip(repeat.SUMMARY, repeat.summary(values, folds=False), strict=True):
        assert cells(printed, label) == pytest.approx([value], abs=1e-4)
    page = Path("runs/repeat/repeat.html").read_text(encoding="utf-8")
    assert all(text in page for text in (*names, *repeat.SUMMARY))


def test_folds_are_validated_and_predict_the_rest(run, capsys) -> None:
    assert run("repeat", "cross", "--folds=3", module=Indexed, data=Folded) == 0
    printed = capsys.readouterr().out
    values = [record(f"cross-fold-{fold}", "validate.json")["val/loss"] for fold in range(3)]
    for label, value in zip(repeat.SUMMARY, repeat.summary(values, folds=True), strict=True):
        assert cells(printed, label) == pytest.approx([value], abs=1e-4)
    for fold in range(3):
        config = yaml.safe_load(Path(f"runs/cross-fold-{fold}/config.yaml").read_text())
        assert (config["data"]["fold"], config["data"]["num_folds"]) == (fold, 3)
        assert not Path(f"runs/cross-fold-{fold}/test.json").exists()
    table = rows("cross", "out_of_fold.csv")
    assert [(int(row["index"]), int(row["fold"])) for row in table] == [(i, i % 3) for i in range(COUNT)]
    assert run("predict", "--run=cross-fold-1", module=Indexed, data=Folded) == 0
    own = {row["index"]: row["prediction"] for row in rows("cross-fold-1", "predictions.csv")}
    assert own == {row["index"]: row["prediction"] for row in table if row["fold"] == "1"}


def test_predictions_that_are_not_out_of_fold_are_not_kept(run, capsys) -> None:
    assert run("repeat", "--folds=2", data=Folded) == 0
    assert "no out_of_fold.csv: predict_step returns no index" in capsys.readouterr().out
    assert run("repeat", "twice", "--folds=3", module=Indexed, data=Overlapping) == 1
    assert "folds 0 and 1 both predicted item " in capsys.readouterr().err
    assert list(Path("runs").rglob("out_of_fold.csv")) == []


def check_seeds(count: int) -> None:
    runs = [f"repeat-seed-{seed}" for seed in range(1, count + 1)]
    assert sorted(path.name for path in Path("runs").glob("repeat-*")) == runs
    for name in runs:
        assert record(name)["status"] == "finished"
        assert [row["epoch"] for row in rows(name) if row["val/loss"]] == ["0", "1", "2"]


def test_a_killed_run_is_resumed_exactly(run) -> None:
    kill("repeat", "--seeds=2", "--save_every_n_steps=1", calls=8)
    assert record("repeat-seed-1")["status"] == "running"
    assert run("repeat", "--seeds=2") == 0
    check_seeds(2)
    assert "resumed" in record("repeat-seed-1")
    assert run("fit", "--seed_everything=1", "--run=alone") == 0
    assert rows("alone") == rows("repeat-seed-1")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("place", ["commands.trials:Trials.train", "runs:Run.end", "runs:Run.begin", "runs:Run.lock"])
def test_a_kill_at_any_moment_loses_no_run(run, place: str, when: str, calls: int) -> None:
    kill("repeat", "--seeds=2", place=f"lightning_runs.{place}", calls=calls, when=when)
    assert run("repeat", "--seeds=2") == 0
    check_seeds(2)


class Buggy(Toy):
    """Fails with the second seed."""

    def on_train_start(self) -> None:
        """Fail."""
        if self.trainer.default_root_dir.endswith("seed-2"):
            raise ZeroDivisionError("a bug")


def test_a_bug_in_a_run_keeps_its_traceback_and_the_other_runs(run, capsys) -> None:
    assert run("repeat", "--seeds=2", module=Buggy) == 1
    printed = capsys.readouterr()
    assert "repeat-seed-2 starts" in printed.out
    assert "ZeroDivisionError" in printed.err
    assert "test_repeat.py" in printed.err
    assert record("repeat-seed-1")["status"] == "finished"


@pytest.mark.parametrize(
    ("options", "data", "named"),
    [
        (["--folds=1"], Folded, "--folds is 1"),
        (["--seeds=0"], Folded, "--seeds is 0"),
        (["--folds=2", "--data.fold=1"], Folded, "--data.fold=1"),
        (["--folds=2"], ToyData, "ToyData"),
    ],
)
def test_a_wrong_option_is_named_before_a_run(run, capsys, options: list[str], data: type, named: str) -> None:
    assert run("repeat", *options, data=data) == 1
    assert named in capsys.readouterr().err
    assert not Path("runs").exists()
