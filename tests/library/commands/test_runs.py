import csv
import json
import re
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
from written import record, rows


def make_run(name: str, test: Any = None, metrics: str = "", **values: Any) -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}\n")
    (folder / "run.json").write_text(json.dumps(values))
    if test is not None:
        (folder / "test.json").write_text(json.dumps(test))
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    return folder


@pytest.fixture
def table(run, capsys):
    """Return the rows of the CSV by the names of the runs, in its order."""

    def table(*options: str) -> dict[str, dict[str, str]]:
        assert run("runs", "--csv", *options) == 0
        return {row["name"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}

    return table


def test_without_a_run_the_command_that_makes_one_is_named(run, capsys) -> None:
    assert run("runs") == 0
    assert "python -m toy_project fit" in capsys.readouterr().out


def test_a_run_is_running_while_a_process_has_its_lock(table) -> None:
    folder = make_run("a", status="running", seconds=5)
    before = time.time()
    with filelock.FileLock(folder / ".lock"):
        row = table()["a"]
    assert row["status"] == "running"
    assert 5 <= float(row["time"]) <= 5 + time.time() - before + 1
    assert (table()["a"]["status"], table()["a"]["time"]) == ("interrupted", "5")


def test_the_row_of_a_run_has_the_values_of_its_files(have, table) -> None:
    have("finished", "a")
    row = table()["a"]
    best = min(float(line["val/loss"]) for line in rows("a") if line["val/loss"])
    assert (row["status"], row["metric"], float(row["best"]), row["epochs"]) == ("finished", "val/loss", best, "3")
    assert (row["test_metric"], float(row["test"])) == ("test/loss", record("a", "test.json")["test/loss"])
    assert float(row["time"]) > 0


@pytest.mark.parametrize(
    ("values", "test", "expected"),
    [
        ({"headline": ["r2", "max", ""], "metric": "val/loss"}, {"test/loss": 1.5, "test/r2": 0.5}, "test/r2 0.5"),
        ({"headline": ["f1", "max", "%"], "metric": "val/mae"}, {"test/r2": 3, "test/mae": 2}, "test/mae 2"),
        ({"headline": None, "metric": "val_mae"}, {"test_r2": 0.5, "test_mae": 2}, "test_mae 2"),
        ({"metric": None}, {"checkpoint": "last.ckpt", "test/loss": 1.5, "test/r2": 0.5}, "test/r2 0.5"),
        ({}, {"test/loss": 1.5}, "test/loss 1.5"),
        ({}, {"test/loss": float("nan"), "checkpoint": None}, ""),
        ({}, [1], ""),
        ({"headline": {}, "metric": 5}, {"test/loss": 1.5}, "test/loss 1.5"),
    ],
)
def test_the_test_column_has_the_headline_or_the_next_best(values, test, expected, table) -> None:
    make_run("a", test=test, **values)
    row = table()["a"]
    assert f"{row['test_metric']} {row['test']}".strip() == expected


@pytest.mark.parametrize(("mode", "best"), [("min", "0.25"), ("max", "0.75")])
def test_a_run_under_way_shows_its_best_epoch_so_far(mode, best, table) -> None:
    metrics = "epoch,step,val/x,train/x\n0,1,,9\n0,2,0.75,\n1,4,0.25,\n1,4,nan,\n2,6,0.5,\n"
    make_run("a", metrics=metrics, status="running", metric="val/x", mode=mode, epochs=3)
    row = table()["a"]
    assert (row["best"], row["epochs"], row["status"]) == (best, "3", "interrupted")


def test_damaged_records_are_named_and_the_other_runs_are_shown(run, capsys) -> None:
    contents = {"list": b"[]", "null": b"null", "cut": b'{"status": "fin', "latin": b'{"status": "\xff"}'}
    for name, content in contents.items():
        (make_run(name) / "run.json").write_bytes(content)
    make_run("empty")
    make_run("whole", status="finished", started="2026-01-01 00:00:00", seconds=3725, epochs=7, debug="a trial")
    assert run("runs") == 0
    output, errors = capsys.readouterr()
    assert [line.split()[:2] for line in output.splitlines()[1:]] == [["whole", "finished"], ["empty", "interrupted"]]
    assert "7  1:02:05  2026-01-01 00:00:00" in output
    assert "finished (a trial)" in output
    assert [name for name in contents if not re.search(rf"{name}\S* can't be read", errors)] == []


def test_a_name_that_a_spreadsheet_would_execute_is_a_text(table) -> None:
    for name in ("=1+1", "+x", "-x", "a=b"):
        make_run(name)
    assert set(table()) == {"'=1+1", "'+x", "'-x", "a=b"}


def test_rows_are_sorted_by_a_column_and_unknown_values_are_last(table) -> None:
    for name, seconds in {"a": 5, "b": None, "c": 40}.items():
        make_run(name, seconds=seconds)
    assert list(table("--sort=time")) == ["a", "c", "b"]
    assert list(table("--sort=time", "--reverse")) == ["c", "a", "b"]
