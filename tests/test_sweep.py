"""A sweep ends with as many trials as were asked for, whoever was killed, and its best one can be repeated."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import yaml
from project import PACKAGE, SMALL
from warm import Command, run, shared

SWEEP = (*SMALL, "--logger=csv", "--save_every_n_steps=2", "--trainer.callbacks=[]")


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


def kill_in_a_trial(project: Path, count: int) -> None:
    """Start a sweep and kill it, after so many trials are complete, in the middle of one."""
    while True:
        command = start(project)
        wait_for(project, count, command)
        while not any((project / "runs").glob(f"tune-{finished(project):03d}/checkpoints/last.ckpt")):
            assert command.ended() is None, command.output()
            time.sleep(0.01)
        command.kill()
        if "RUNNING" in trials(project):
            return
        count = finished(project) + 1  # it was complete before it was killed


def test_a_sweep_killed_twice_and_worked_on_by_two_ends_with_exactly_its_trials_and_its_best_repeats(project):
    kill_in_a_trial(project, 3)
    kill_in_a_trial(project, 8)
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


def told(output: str) -> list[str]:
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def with_space(project: Path, name: str, text: str) -> str:
    (project / f"{name}.yaml").write_text(text)
    return f"--space={name}.yaml"


def test_bad_search_spaces_and_options_are_refused_in_one_line_before_the_first_trial(project):
    space = "space: {data.batch_size: {int: [8, 16]}}"
    cases = {
        "--trials is 0; it must be at least 1.": ["--trials=0"],
        "the search space nowhere.yaml can't be read: No such file": ["--space=nowhere.yaml"],
        "empty.yaml has no search space: under space: it must name options": [with_space(project, "empty", "")],
        "yaml.yaml is not YAML: ": [with_space(project, "yaml", "space: [")],
        "more.yaml has trials, which means nothing there": [with_space(project, "more", f"{{{space}, trials: 3}}")],
        "data.batch_size is {'range': [1, 2]} in kind.yaml; it must have one of choices": [
            with_space(project, "kind", "space: {data.batch_size: {range: [1, 2]}}")
        ],
        "it must be two numbers (1e-4 is a text in YAML: write 1.0e-4)": [
            with_space(project, "text", "space: {model.optimizer.init_args.lr: {uniform: [1e-4, 1]}}")
        ],
        "on a logarithmic scale both must be above 0": [
            with_space(project, "log", "space: {model.optimizer.init_args.lr: {log_uniform: [0, 1]}}")
        ],
        "direction is 'up' in up.yaml; it must be maximize or minimize.": [
            with_space(project, "up", f"{{direction: up, {space}}}")
        ],
        "model.num_classes can't be searched (linked.yaml)": [
            with_space(project, "linked", "space: {model.num_classes: {int: [2, 3]}}")
        ],
        "pruner.class_path is 'optuna.pruners.Median' in pruner.yaml; it must be a class of optuna.pruners": [
            with_space(project, "pruner", f"{{{space}, pruner: {{class_path: optuna.pruners.Median}}}}")
        ],
        "--run is no option of sweep": ["--run=a"],
    }
    commands = [["sweep", "tune", *SMALL, *options] for options in cases.values()]
    for (text, options), (code, output) in zip(cases.items(), run(project, *commands), strict=True):
        assert code == 1, (options, output)
        (line,) = told(output)
        assert text in line, (options, line)
    assert not list(project.glob("runs/tune-*"))


def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(project):
    spaces = {
        "data.batch_sizes": "there is no option --data.batch_sizes. Did you mean --data.batch_size",
        "model.optimizer.init_args.lrr": "lrr",
        "model.network.init_args.widht": "widht",
    }
    commands = [
        ["sweep", with_space(project, f"s{i}", f"space: {{{name}: {{int: [8, 16]}}}}"), *SMALL]
        for i, name in enumerate(spaces)
    ]
    commands.append(["sweep", *SMALL, "--data.bach_size=3"])
    commands.append(["sweep", with_space(project, "s", "space: {data.batch_size: {choices: [16, many]}}"), *SMALL])
    texts = [*spaces.values(), "there is no option --data.bach_size. Did you mean --data.batch_size", "'many'"]
    for text, (code, output) in zip(texts, run(project, *commands), strict=True):
        assert code == 2, output
        assert text in told(output)[0], output
    assert not (project / "runs").exists()


def test_a_locked_database_and_one_that_cannot_be_opened_are_told_in_one_line(project):
    (project / "runs" / "tune").mkdir(parents=True)
    locked = sqlite3.connect(project / "locked.db", isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    storages = {
        "sqlite:///locked.db?timeout=1": "another program has locked it",
        "sqlite:///nowhere/sweep.db": "unable to open database file",
        "nonsense": "nonsense",
        "postgresql://me:secret@127.0.0.1:9/base": "postgresql://…@127.0.0.1:9/base",
    }
    results = run(project, *(["sweep", "tune", *SMALL, f"--storage={url}"] for url in storages))
    locked.close()
    for text, (code, output) in zip(storages.values(), results, strict=True):
        assert code == 1, output
        (line,) = told(output)
        assert text in line
        assert "secret" not in line


def test_a_stopped_sweep_goes_on_by_the_same_command_and_refuses_another_one(project):
    command = start(project)
    wait_for(project, 1, command)
    time.sleep(0.2)
    os.kill(command.pid, signal.SIGTERM)
    assert command.wait() == 143, command.output()
    assert "stopped by SIGTERM; to go on: python -m my_lightning_project sweep tune --trials=20" in command.output()
    [(code, output)] = run(project, ["sweep", "tune", *SWEEP, "--data.batch_size=8"])
    assert code == 1
    assert told(output) == [
        "error: the sweep tune was begun with data.batch_size 16, and now it is 8. Begin another one under a name of"
        " its own: sweep NAME"
    ]
    [(code, output)] = run(project, ["sweep", "tune", "--trials=3", *SWEEP])
    assert code == 0, output
    assert finished(project) == 3 or trials(project)[:3] == ["COMPLETE"] * 3


def test_a_diverged_trial_is_pruned_and_three_failures_in_a_row_end_the_sweep(project):
    diverging = with_space(
        project, "diverging", "{pruner: null, space: {model.optimizer.init_args.lr: {choices: [0.001, 1.0e+30]}}}"
    )
    failing = with_space(project, "failing", "space: {data.batch_size: {int: [2000, 3000]}}")
    wrong = with_space(project, "wrong", "{metric: val/acc, space: {data.batch_size: {int: [10, 12]}}}")
    results = run(
        project,
        ["sweep", "tune", *SWEEP, "--trials=6", diverging],
        ["sweep", "failing", *SWEEP, "--trials=6", failing],
        ["sweep", "wrong", *SWEEP, "--trials=6", wrong],
    )

    assert [code for code, _ in results] == [0, 1, 1], results
    assert sorted(set(trials(project))) == ["COMPLETE", "PRUNED"]
    assert "the training has diverged" in results[0][1]
    assert told(results[1][1])[-1].startswith(
        "error: 3 trials in a row have failed, the last one because: data.batch_size is 2"
    )
    assert told(results[2][1])[-1].startswith(
        "error: metric is 'val/acc' in wrong.yaml; the training logs train/accuracy"
    )


def test_the_wandb_sweep_runs_a_command_that_the_parser_accepts(project):
    sweep = yaml.safe_load((project / "configs" / "wandb_sweep.yaml").read_text())
    own = yaml.safe_load((project / "configs" / "sweep.yaml").read_text())
    assert sweep["parameters"].keys() == own["space"].keys()
    assert sweep["metric"]["name"] == own["metric"]
    # as `wandb agent` makes it: https://docs.wandb.ai/models/sweeps/define-sweep-configuration
    values = {name: p["min"] if "min" in p else p["values"][0] for name, p in sweep["parameters"].items()}
    words = []
    for word in sweep["command"]:
        words += [f"--{name}={value}" for name, value in values.items()] if word == "${args}" else [word]
    assert words[:5] == ["${env}", "${interpreter}", "-m", PACKAGE, "fit"]
    [(code, output)] = run(project, [*words[4:], "--print_config"])
    assert code == 0, output
    assert "lr: 0.0003" in output
