"""A sweep ends with as many trials as were asked for, whoever was killed, and its best one can be repeated."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from project import PACKAGE, SMALL
from warm import Command, run, shared

SWEEP = (*SMALL, "--logger=csv", "--save_every_n_steps=2", "--trainer.callbacks=[]")


@pytest.fixture
def project(bake_project) -> Path:
    return bake_project({"logger": "csv"})


def start(project: Path, *options: str) -> Command:
    return shared().start(project, [["sweep", "tune", "--trials=20", *SWEEP, *options]])


def trials(project: Path) -> list[str]:
    """The state of each of Optuna's trials."""
    file = project / "runs" / "tune" / "trials.log"
    if not file.is_file():
        return []
    with suppress(KeyError):  # the study is not there yet
        study = optuna.load_study(study_name="tune", storage=JournalStorage(JournalFileBackend(str(file))))
        return [trial.state.name for trial in study.get_trials(deepcopy=False)]
    return []


def finished(project: Path) -> int:
    return sum(state in ("COMPLETE", "PRUNED") for state in trials(project))


def wait_for(project: Path, count: int, *commands: Command) -> None:
    end = time.monotonic() + 120
    while finished(project) < count:
        assert time.monotonic() < end, [command.output() for command in commands]
        assert any(command.ended() is None for command in commands), [command.output() for command in commands]
        time.sleep(0.01)


def kill_in_a_trial(project: Path, count: int, command: Command) -> None:
    """Kill a sweep, after so many trials are complete, in the middle of one of its own."""
    wait_for(project, count, command)
    while True:
        assert command.ended() is None, command.output()
        begun = re.findall(r"^trial (\d+) (?:begins|goes on)", command.output(), re.MULTILINE)
        folder = project / "runs" / f"tune-{int(begun[-1]):03d}" if begun else project
        if (folder / "checkpoints" / "last.ckpt").is_file() and status(folder) == "running":
            command.kill()
            if status(folder) == "running":
                return
        time.sleep(0.01)


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def check_trials(project: Path, outputs: list[str]) -> None:
    """Each of the 20 trials was begun once, has trained each epoch once, and is finished."""
    states = trials(project)
    assert sum(state in ("COMPLETE", "PRUNED") for state in states) == 20, states
    assert set(states) <= {"COMPLETE", "PRUNED", "FAIL"}
    begun = [n for output in outputs for n in re.findall(r"^trial (\d+) begins", output, re.MULTILINE)]
    folders = sorted((project / "runs").glob("tune-*"))
    assert sorted(f"tune-{int(number):03d}" for number in begun) == [folder.name for folder in folders]
    assert len(folders) == 20
    for folder in folders:
        assert status(folder) == "finished"
        with (folder / "metrics.csv").open(newline="") as file:
            epochs = [row["epoch"] for row in csv.DictReader(file) if row["val/accuracy"]]
        assert epochs in (["0"], ["0", "1"]), folder


def test_a_sweep_of_two_processes_that_are_killed_ends_with_exactly_its_trials_and_its_best_repeats(project):
    random, first, second = Random(0), start(project), start(project)  # at once: one of them makes the database
    kill_in_a_trial(project, 3, first)
    third = start(project)
    kill_in_a_trial(project, 8, second)
    time.sleep(random.uniform(0, 2))
    third.kill()  # whatever it is at
    last = [start(project), start(project)]

    assert [command.wait() for command in last] == [0, 0], [command.output() for command in last]
    outputs = [command.output() for command in (first, second, third, *last)]
    check_trials(project, outputs)
    went_on = re.findall(r"^trial (\d+) goes on", "".join(outputs), re.MULTILINE)
    for output in outputs[:2]:
        assert re.findall(r"^trial (\d+) (?:begins|goes on)", output, re.MULTILINE)[-1] in went_on
    best = (project / "runs" / "tune" / "best.yaml").read_text()
    found = re.match(r"# The best of the sweep tune: trial (\d+), val/accuracy (0\.\d+), of \d+ complete", best)
    assert found
    [(code, output)] = run(project, ["fit", "-c", "runs/tune/best.yaml", "--run=again"])
    assert code == 0, output
    again, trial = (project / "runs" / name for name in ("again", f"tune-{int(found[1]):03d}"))
    assert (again / "metrics.csv").read_text() == (trial / "metrics.csv").read_text()
    page = (project / "runs" / "tune" / "sweep.html").read_text()
    assert f"<title>Comparison of {trial.name}, " in page
    assert "model.optimizer.init_args.lr" in page


MOMENTS = {
    "before its trial is trained": ("Study.ask", "original(*args, **kwargs)"),
    "while values are chosen": ("trial.Trial._suggest", "optuna.trial.Trial._suggest = original"),
    "while its result is told": ("Study.tell", ""),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_killed_between_two_writes_to_the_journal_loses_no_trial(project, moment):
    name, first = MOMENTS[moment]
    before = f"""
import os, signal, optuna
original = optuna.{name}
def killed(*args, **kwargs):
    {first}
    os.kill(os.getpid(), signal.SIGKILL)
optuna.{name} = killed
"""
    small = ["sweep", "tune", "--trials=2", *SWEEP]
    command = shared().start(project, [small])
    kill_in_a_trial(project, 0, command)
    values = options(project / "runs" / "tune-000", "model")
    killed = shared().start(project, [small], before=before)
    assert killed.wait() == -9
    [(code, output)] = run(project, small)

    assert code == 0, output
    assert finished(project) == 2
    assert values == options(project / "runs" / "tune-000", "model")
    folders = list(project.glob("runs/tune-*"))
    assert [status(folder) for folder in folders] == ["finished"] * 2


def options(folder: Path, part: str) -> dict[str, Any]:
    return yaml.safe_load((folder / "config.yaml").read_text())[part]


def test_a_trial_is_pruned_and_one_that_goes_on_after_a_kill_is_not(project):
    pruner = "{class_path: optuna.pruners.ThresholdPruner, init_args: {upper: -1.0}}"
    space = with_space(project, "pruned", f"{METRIC}, pruner: {pruner}, space: {{data.batch_size: {{int: [8, 16]}}}}")
    command = shared().start(project, [["sweep", "tune", "--trials=1", *SWEEP, space]])
    kill_in_a_trial(project, 0, command)
    [(code, output), (pruned, _)] = run(
        project, ["sweep", "tune", "--trials=1", *SWEEP, space], ["sweep", "tune", "--trials=2", *SWEEP, space]
    )
    assert (code, pruned) == (0, 0), output
    assert "trial 0 goes on" in output
    assert trials(project) == ["COMPLETE", "PRUNED"]
    [(code, output)] = run(project, ["sweep", "other", "--trials=1", *SWEEP, space])
    assert code == 1
    assert told(output) == ["error: none of the 1 trials has come to its end; all of them were pruned."]


def told(output: str) -> list[str]:
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def with_space(project: Path, name: str, text: str) -> str:
    (project / f"{name}.yaml").write_text(f"{{{text}}}")
    return f"--space={name}.yaml"


METRIC = "metric: val/accuracy, direction: maximize"


def test_bad_search_spaces_and_options_are_refused_in_one_line_before_the_first_trial(project):
    space = "space: {data.batch_size: {int: [8, 16]}}"
    cases = {
        "--trials is 0; it must be at least 1.": ["--trials=0"],
        "the search space nowhere.yaml can't be used: File does not exist": ["--space=nowhere.yaml"],
        "the search space empty.yaml has no space.": [with_space(project, "empty", f"{METRIC}, space: {{}}")],
        "yaml.yaml can't be used: Problems parsing config: ": [with_space(project, "yaml", "space: [")],
        "more.yaml can't be used: there is no option trials.": [with_space(project, "more", f"{space}, trials: 3")],
        "data.batch_size is {'range': [1, 2]}; it must be choices: [A, B, …], or uniform": [
            with_space(project, "kind", "space: {data.batch_size: {range: [1, 2]}}")
        ],
        "model.optimizer.init_args.lr is {'uniform': ['low', 1]}; it must be choices": [
            with_space(project, "text", "space: {model.optimizer.init_args.lr: {uniform: [low, 1]}}")
        ],
        "data.batch_size is {'int': [1.5, 3]}; it must be choices": [
            with_space(project, "half", "space: {data.batch_size: {int: [1.5, 3]}}")
        ],
        "data.batch_size is {'int': [16]}; it must be choices": [
            with_space(project, "one", "space: {data.batch_size: {int: [16]}}")
        ],
        "data.batch_size is {'int': [16, 8]}; it must be choices": [
            with_space(project, "order", "space: {data.batch_size: {int: [16, 8]}}")
        ],
        "`low > 0` must hold for `log=True`": [
            with_space(project, "log", "space: {model.optimizer.init_args.lr: {log_uniform: [0, 1]}}")
        ],
        "up.yaml can't be used: direction is 'up'; it must be one of 'maximize', 'minimize'": [
            with_space(project, "up", f"direction: up, {space}")
        ],
        "the search space loss.yaml has no direction.": [with_space(project, "loss", f"metric: val/loss, {space}")],
        "there is no Median in optuna.pruners": [
            with_space(project, "pruner", f"{METRIC}, {space}, pruner: {{class_path: optuna.pruners.Median}}")
        ],
        "--run is no option of sweep": ["--run=a"],
    }
    commands = [["sweep", "tune", *SMALL, *options] for options in cases.values()]
    for (text, options), (code, output) in zip(cases.items(), run(project, *commands), strict=True):
        assert code == 1, (options, output)
        (line,) = told(output)
        assert text in line, (options, line)
    assert not (project / "runs").exists()


def test_a_misspelt_option_and_one_that_follows_another_are_refused_before_the_first_trial(project):
    spaces = {
        "data.batch_sizes": "there is no option --data.batch_sizes. Did you mean --data.batch_size",
        "model.optimizer.init_args.lrr": "lrr",
        "model.network.init_args.widht": "widht",
        "model.num_classes": "--model.num_classes can't be set: it follows the data module's num_classes.",
    }
    commands = [
        ["sweep", with_space(project, f"s{i}", f"{METRIC}, space: {{{name}: {{int: [8, 16]}}}}"), *SMALL]
        for i, name in enumerate(spaces)
    ]
    choices = f"{METRIC}, space: {{data.batch_size: {{choices: [16, many]}}}}"
    commands.append(["sweep", *SMALL, "--data.bach_size=3"])
    commands.append(["sweep", with_space(project, "s", choices), *SMALL])
    texts = [*spaces.values(), "there is no option --data.bach_size. Did you mean --data.batch_size", "'many'"]
    for text, (code, output) in zip(texts, run(project, *commands), strict=True):
        assert code == 2, output
        assert text in told(output)[0], output
    assert not (project / "runs").exists()


def test_a_file_system_without_locks_is_told_in_one_line(project):
    before = """
import filelock
def acquire(*args, **kwargs):
    raise OSError(37, "No locks available")
filelock.BaseFileLock.acquire = acquire
"""
    [(code, output)] = run(project, ["sweep", "tune", *SMALL], before=before)
    assert code == 1
    assert told(output) == ["error: the sweep's folder can't be used: No locks available."]


def test_runs_that_have_the_names_of_the_trials_are_not_gone_on_with(project):
    (project / "runs" / "tune-003").mkdir(parents=True)
    (project / "runs" / "a").mkdir()
    (project / "runs" / "a" / "config.yaml").touch()
    results = run(project, ["sweep", "tune", *SMALL], ["sweep", "a", *SMALL])
    assert [code for code, _ in results] == [1, 1]
    assert [told(output)[0].split(" is there")[0] for _, output in results] == [
        f"error: runs{os.sep}tune-003",
        f"error: runs{os.sep}a{os.sep}config.yaml",
    ]


def test_without_a_metric_the_headline_of_the_module_is_searched_for(project):
    before = f"from {PACKAGE}.module import ImageClassifier\nImageClassifier.headline = ('loss', 'min', 'nats')"
    space = with_space(project, "headline", "space: {data.batch_size: {int: [8, 16]}}")
    [(code, output)] = run(project, ["sweep", "tune", "--trials=2", *SWEEP, space], before=before)

    assert code == 0, output
    values = [float(value) for value in re.findall(r"^trial \d: val/loss (\d\.\d+)", output, re.MULTILINE)]
    assert f"Best: trial {values.index(min(values))}, val/loss {min(values):.4f}, of 2 complete" in output


def test_a_grid_of_values_is_searched_by_its_sampler(project):
    grid = "{class_path: optuna.samplers.GridSampler, init_args: {search_space: {data.batch_size: [8, 16]}}}"
    space = f"{METRIC}, sampler: {grid}, space: {{data.batch_size: {{choices: [8, 16]}}}}"
    [(code, output)] = run(project, ["sweep", "tune", "--trials=2", *SWEEP, with_space(project, "grid", space)])

    assert code == 0, output
    sizes = [options(folder, "data")["batch_size"] for folder in project.glob("runs/tune-*")]
    assert sorted(sizes) == [8, 16]


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
        project,
        "diverging",
        f"{METRIC}, pruner: null, space: {{model.optimizer.init_args.lr: {{choices: [0.001, 1.0e+30]}}}}",
    )
    failing = with_space(project, "failing", f"{METRIC}, space: {{data.batch_size: {{int: [2000, 3000]}}}}")
    wrong = with_space(
        project, "wrong", "metric: val/acc, direction: maximize, space: {data.batch_size: {int: [10, 12]}}"
    )
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
        "error: the sweep's metric is 'val/acc'; the training logs train/accuracy"
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
