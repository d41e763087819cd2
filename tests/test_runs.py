"""Does `runs` say what the files of the runs hold, whatever they hold, and which run still runs?"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from project import PACKAGE, SMALL, clean_environment
from warm import run, shared

# `runs` as `__main__` starts it, which fails if torch was imported on the way
TABLE = (
    f"import sys; from {PACKAGE}.__main__ import main; code = main();"
    " sys.exit(code or 9 * ('torch' in sys.modules or 'pytorch_lightning' in sys.modules))"
)


@pytest.fixture
def project(bake_project) -> Path:
    return bake_project({"logger": "csv"})


def table(project: Path, *options: str) -> tuple[str, str]:
    """What `runs` prints to stdout and to stderr."""
    command = [sys.executable, "-c", TABLE, "runs", *options]
    done = subprocess.run(command, cwd=project, env=clean_environment(project), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def rows(project: Path, *options: str) -> dict[str, dict[str, str]]:
    """The rows of the CSV by the names of the runs, in its order."""
    output, _ = table(project, "--csv", *options)
    return {row["name"]: row for row in csv.DictReader(io.StringIO(output))}


def make_run(project: Path, name: str, test: Any = None, metrics: str = "", **record: Any) -> Path:
    folder = project / "runs" / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}\n")
    (folder / "run.json").write_text(json.dumps(record))
    if test is not None:
        (folder / "test.json").write_text(json.dumps(test))
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    return folder


def test_the_table_needs_no_torch_and_knows_a_running_run_from_one_that_was_killed(project):
    assert table(project)[0] == f"There is no run in runs yet. Train one with: python -m {PACKAGE} fit\n"
    before = f"""
from {PACKAGE}.module import ImageClassifier
def wait(self):
    import time
    time.sleep(60)
ImageClassifier.on_train_start = wait
"""
    command = shared().start(project, [["fit", "--run=a", *SMALL]], before=before)
    try:
        end = time.monotonic() + 60
        record = project / "runs" / "a" / "run.json"
        while not record.is_file() or "command" not in json.loads(record.read_text()):
            assert command.ended() is None, command.output()
            assert time.monotonic() < end, command.output()
            time.sleep(0.05)
        assert re.search(r"^a +running ", table(project)[0], flags=re.MULTILINE)
    finally:
        command.kill()
    assert re.search(r"^a +interrupted ", table(project)[0], flags=re.MULTILINE)
    assert json.loads(record.read_text())["status"] == "running"


def test_the_best_value_and_the_epochs_are_those_of_the_metrics(project):
    assert [code for code, _ in run(project, ["fit", "--run=a", *SMALL])] == [0]

    row = rows(project)["a"]
    with (project / "runs" / "a" / "metrics.csv").open(newline="") as file:
        values = [float(line["val/loss"]) for line in csv.DictReader(file) if line["val/loss"]]
    assert (row["status"], row["metric"], float(row["best"])) == ("finished", "val/loss", min(values))
    assert row["epochs"] == "2"
    assert float(row["test"]) == json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"]
    assert row["test_metric"] == "test/accuracy"
    assert float(row["time"]) > 0


@pytest.mark.parametrize(
    ("record", "test", "expected"),
    [
        (
            {"headline": ["r2", "max", ""], "metric": "val/loss"},
            {"test/loss": 1.5, "test/mae": 2, "test/r2": 0.5},
            "test/r2 0.5",
        ),
        (
            {"headline": ["f1", "max", "%"], "metric": "val/mae"},
            {"test/loss": 1.5, "test/r2": 3, "test/mae": 2},
            "test/mae 2",
        ),
        ({"headline": None, "metric": "val_mae"}, {"test_loss": 1.5, "test_r2": 0.5, "test_mae": 2}, "test_mae 2"),
        ({"metric": None}, {"checkpoint": "last.ckpt", "test/loss": 1.5, "test/r2": 0.5, "test/mae": 2}, "test/r2 0.5"),
        ({}, {"test/loss": 1.5}, "test/loss 1.5"),
        ({}, {"test/loss": float("nan"), "checkpoint": None}, ""),
        ({}, [1], ""),
        ({"headline": {}, "metric": 5}, {"test/loss": 1.5}, "test/loss 1.5"),
    ],
)
def test_the_test_column_has_the_headline_or_else_what_comes_nearest_and_names_it(project, record, test, expected):
    make_run(project, "a", test=test, **record)
    row = rows(project)["a"]
    assert f"{row['test_metric']} {row['test']}".strip() == expected


@pytest.mark.parametrize(("mode", "best"), [("min", "0.25"), ("max", "0.75")])
def test_a_run_under_way_shows_its_best_epoch_so_far(project, mode, best):
    metrics = "epoch,step,val/x,train/x\n0,1,,9\n0,2,0.75,\n1,4,0.25,\n1,4,nan,\n2,6,0.5,\n"
    make_run(project, "a", metrics=metrics, status="running", metric="val/x", mode=mode, epochs=3)
    row = rows(project)["a"]
    assert (row["best"], row["epochs"], row["status"]) == (best, "3", "interrupted")


def test_damaged_records_are_named_once_and_the_other_runs_are_shown(project):
    contents = {"list": b"[]", "null": b"null", "cut": b'{"status": "fin', "latin": b'{"status": "\xff"}'}
    for name, content in contents.items():
        (make_run(project, name) / "run.json").write_bytes(content)
    make_run(project, "empty")
    (make_run(project, "none") / "run.json").unlink()
    make_run(project, "whole", status="finished", started="2026-01-01 00:00:00", seconds=3725, epochs=7)

    output, errors = table(project)
    assert [line.split()[:2] for line in output.splitlines()[1:]] == [
        ["whole", "finished"],
        ["empty", "interrupted"],
        ["none", "interrupted"],
    ]
    assert "7  1:02:05  2026-01-01 00:00:00" in output
    assert len(errors.splitlines()) == len(contents)
    for name in contents:
        assert len(re.findall(rf"^left out: \S*{name}\S* can't be read: ", errors, re.MULTILINE)) == 1


def test_names_that_a_spreadsheet_would_execute_are_texts_in_the_csv(project):
    for name in ("=1+1", "+x", "-x", "a=b"):
        make_run(project, name)
    assert set(rows(project)) == {"'=1+1", "'+x", "'-x", "a=b"}
    assert "\n=1+1 " in table(project)[0]


def test_rows_are_sorted_by_a_column_and_unknown_values_stand_at_the_end(project):
    for name, seconds in {"a": 5, "b": None, "c": 40}.items():
        make_run(project, name, seconds=seconds)
    assert list(rows(project, "--sort=time")) == ["a", "c", "b"]
    assert list(rows(project, "--sort=time", "--reverse")) == ["c", "a", "b"]
    [(code, output)] = run(project, ["runs", "--sort=bset"])
    assert code == 2
    assert "argument --sort: invalid choice: 'bset' (choose from" in output
