"""A sweep ends with as many trials as were asked for, whoever was killed, and its best one can be repeated."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path

import pytest
from project import SMALL
from warm import Command, run, shared

SWEEP = (*SMALL, "--logger=csv", "--trainer.max_epochs=3", "--save_every_n_steps=1", "--trainer.callbacks=[]")


@pytest.fixture
def project(bake_project) -> Path:
    return bake_project({"logger": "csv"})


def start(project: Path, *options: str) -> Command:
    return shared().start(project, [["sweep", "tune", "--trials=20", *SWEEP, *options]])


def trials(project: Path) -> list[str]:
    """The state of each trial."""
    file = project / "runs" / "tune" / "sweep.db"
    if not file.is_file():
        return []
    with sqlite3.connect(file, timeout=20) as database:
        try:
            return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY number")]
        except sqlite3.OperationalError:  # the tables are not there yet
            return []


def finished(project: Path) -> int:
    return sum(state in ("COMPLETE", "PRUNED") for state in trials(project))


def wait_for(project: Path, count: int, *commands: Command) -> None:
    end = time.monotonic() + 120
    while finished(project) < count:
        assert time.monotonic() < end, [command.output() for command in commands]
        assert any(command.ended() is None for command in commands), [command.output() for command in commands]
        time.sleep(0.01)


def test_a_sweep_killed_twice_and_worked_on_by_two_ends_with_exactly_its_trials_and_its_best_repeats(project):
    for count in (3, 8):
        killed = start(project)
        wait_for(project, count, killed)
        time.sleep(0.2)  # into the next trial
        killed.kill()
    assert "RUNNING" in trials(project)
    both = [start(project), start(project)]

    assert [command.wait() for command in both] == [0, 0], [command.output() for command in both]
    states = trials(project)
    assert len([state for state in states if state in ("COMPLETE", "PRUNED")]) == 20, states
    assert set(states) <= {"COMPLETE", "PRUNED", "WAITING"}  # one that waits is for a larger --trials
    assert len(list((project / "runs").glob("tune-*"))) == 20
    assert "goes on" in "".join(command.output() for command in both)
    begun = [re.findall(r"^trial (\d+) (?:begins|goes on)", command.output(), re.MULTILINE) for command in both]
    assert not set(begun[0]) & set(begun[1])
    assert all(begun)
    for folder in (project / "runs").glob("tune-*"):
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"

    best = (project / "runs" / "tune" / "best.yaml").read_text()
    found = re.match(r"# The best of the sweep tune: trial (\d+), val/accuracy (0\.\d+)", best)
    assert found
    [(code, output)] = run(project, ["fit", "-c", "runs/tune/best.yaml", "--run=again"])
    assert code == 0, output
    again, trial = (project / "runs" / name for name in ("again", f"tune-{int(found[1]):03d}"))
    assert (again / "metrics.csv").read_text() == (trial / "metrics.csv").read_text()
    page = (project / "runs" / "tune" / "sweep.html").read_text()
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)  # it needs no network
