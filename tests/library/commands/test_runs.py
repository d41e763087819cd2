import csv

import pytest
from written import write_run


@pytest.fixture
def table(run, capsys):
    def table(*options: str) -> dict[str, dict[str, str]]:
        assert run("runs", "--csv", *options) == 0
        return {row["name"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}

    return table


@pytest.mark.parametrize(
    ("values", "test", "expected"),
    [
        ({"headline": ["r2", "max", ""], "metric": "val/loss"}, {"test/loss": 1.5, "test/r2": 0.5}, "test/r2 0.5"),
        ({"headline": ["f1", "max", "%"], "metric": "val/mae"}, {"test/r2": 3, "test/mae": 2}, "test/mae 2"),
        ({"headline": None, "metric": "val_mae"}, {"test_r2": 0.5, "test_mae": 2}, "test_mae 2"),
        ({}, {"checkpoint": None, "test/loss": 1.5, "test/r2": 0.5}, "test/r2 0.5"),
    ],
)
def test_the_test_column_has_the_headline_or_the_next_best(values, test, expected, table) -> None:
    write_run("a", {}, test, **values)
    row = table()["a"]
    assert f"{row['test_metric']} {row['test']}".strip() == expected


@pytest.mark.parametrize(("mode", "best"), [("min", "0.25"), ("max", "0.75")])
def test_a_run_under_way_shows_its_best_epoch_so_far(mode, best, table) -> None:
    write_run("a", {"val/x": ["", 0.75, 0.25, "nan", 0.5], "train/x": [9, "", "", "", ""]}, metric="val/x", mode=mode)
    assert table()["a"]["best"] == best


def test_rows_are_sorted_by_a_column_and_unknown_values_are_last(table) -> None:
    for name, seconds in {"=1+1": 5, "b": None, "c": 40}.items():
        write_run(name, {}, seconds=seconds)
    assert list(table("--sort=time")) == ["'=1+1", "c", "b"]  # no spreadsheet executes the name
