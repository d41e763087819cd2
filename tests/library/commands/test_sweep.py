"""A sweep ends with exactly its trials, whatever was killed; its best one can be trained again; mistakes are named."""

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from killed import kill
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from toy import Toy
from written import record, rows

METRIC = "metric: val/loss, direction: minimize"
LR = f"{METRIC}, space: {{model.lr: {{log_uniform: [1e-4, 1e-2]}}}}"
GRID = "class_path: optuna.samplers.GridSampler, init_args: {search_space: {model.lr: [0.01, 1.0e+30]}}"
PRUNER = "class_path: optuna.pruners.ThresholdPruner, init_args: {upper: -1.0}"


@pytest.fixture(autouse=True)
def space() -> Callable[[str], None]:
    """Write a search space; at first, one of a learning rate and a batch size."""

    def write(text: str) -> None:
        Path("configs/sweep.yaml").write_text(f"{{{text}}}", encoding="utf-8")

    write(f"{LR[:-1]}, data.batch_size: {{choices: [8, 16]}}}}")
    return write


def states() -> list[str]:
    storage = JournalStorage(JournalFileBackend("runs/sweep/trials.log"))
    return [trial.state.name for trial in optuna.load_study(study_name="sweep", storage=storage).get_trials()]


def check_trials(count: int) -> list[str]:
    """So many trials have ended, and each is a run that has trained each of its three epochs once."""
    assert Counter(states()) == {"COMPLETE": count}
    runs = [f"sweep-{number:03d}" for number in range(count)]
    assert sorted(path.name for path in Path("runs").glob("sweep-*")) == runs
    for run in runs:
        assert record(run)["status"] == "finished"
        assert [row["epoch"] for row in rows(run) if row["val/loss"]] == ["0", "1", "2"]
    return runs


def test_trials_are_added_and_the_best_one_can_be_repeated(run, capsys) -> None:
    for count in (1, 1, 3):
        assert run("sweep", f"--trials={count}") == 0
        check_trials(count)
    losses = {name: min(float(row["val/loss"] or "inf") for row in rows(name)) for name in check_trials(3)}
    best = min(losses, key=lambda name: losses[name])
    printed = capsys.readouterr().out
    assert printed.count(" starts: ") == 3
    assert f"Best: {best}, val/loss {losses[best]:.4f}" in printed
    command = shlex.split(printed.splitlines()[-1].partition("Next: ")[2])
    assert run(*command[3:], "--run=again") == 0
    assert rows("again") == rows(best)


def test_a_killed_trial_is_resumed_with_its_values(run) -> None:
    kill("sweep", "--trials=2", "--save_every_n_steps=1", calls=8)
    before = yaml.safe_load(Path("runs/sweep-000/config.yaml").read_text())["model"]["lr"]
    assert run("sweep", "--trials=2") == 0
    check_trials(2)
    assert yaml.safe_load(Path("runs/sweep-000/config.yaml").read_text())["model"]["lr"] == before
    assert "resumed" in record("sweep-000")


MOMENTS = ("create_new_trial", "set_trial_param", "set_trial_intermediate_value", "set_trial_state_values")
PLACES = [f"optuna.storages:JournalStorage.{name}" for name in MOMENTS]
PLACES += ["optuna.study:Study.ask", "lightning_runs.commands.trials:Trials.train", "lightning_runs.runs:Run.end"]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_a_kill_between_two_writes_loses_no_trial(run, place: str, when: str, calls: int) -> None:
    kill("sweep", "--trials=2", place=place, calls=calls, when=when)
    assert run("sweep", "--trials=2") == 0
    check_trials(2)


def test_a_trial_is_pruned_also_after_it_was_killed(run, space, capsys) -> None:
    space(f"{LR}, pruner: {{{PRUNER}}}")
    kill("sweep", "--trials=2", "--save_every_n_steps=1", calls=3)
    assert run("sweep", "--trials=2") == 1
    assert states() == ["PRUNED", "PRUNED"]
    assert len([row for row in rows("sweep-000") if row["val/loss"]]) == 1
    assert "no trial is complete" in capsys.readouterr().err


def test_a_diverged_trial_counts_as_pruned(run, space) -> None:
    space(f"{METRIC}, sampler: {{{GRID}}}, space: {{model.lr: {{choices: [0.01, 1.0e+30]}}}}")
    assert run("sweep", "--trials=2") == 0
    assert sorted(states()) == ["COMPLETE", "PRUNED"]


class Buggy(Toy):
    """Fails in every training."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Add tensors that don't fit."""
        return torch.zeros(3) + torch.zeros(4)


def test_three_failures_in_a_row_end_a_sweep_with_the_traceback(run, capsys) -> None:
    assert run("sweep", "--trials=2", module=Buggy) == 1
    assert states() == ["FAIL"] * 3
    printed = capsys.readouterr().err
    assert printed.count("torch.zeros(3) + torch.zeros(4)") == 3
    assert "error: 3 trials in a row have failed" in printed


# The text of a search space, and what its message names.
MISTAKES = [
    ("[", ["line 1"]),
    (METRIC, ["space"]),
    (f"{LR}, trials: 3", ["trials"]),
    (LR.replace("minimize", "up"), ["direction", "'up'", "minimize"]),
    (LR.replace("val/loss", "val/acc"), ["val/acc", "sweep-000"]),
    (f"{LR}, pruner: {{class_path: optuna.pruners.Median}}", ["optuna.pruners", "Median"]),
    (f"{METRIC}, space: {{model.lr: {{range: [1, 2]}}}}", ["model.lr", "range", "log_uniform"]),
    (f"{METRIC}, space: {{model.lr: {{int: [16, 8]}}}}", ["model.lr", "[16, 8]"]),
    (f"{METRIC}, space: {{data.batch_size: {{choices: [8, many]}}}}", ["data.batch_size", "'many'"]),
    (f"{METRIC}, space: {{data.batch_sise: {{choices: [8]}}}}", ["data.batch_sise", "data.batch_size"]),
]


@pytest.mark.parametrize(("text", "named"), MISTAKES)
def test_a_mistake_in_the_space_is_named(run, space, capsys, text: str, named: list[str]) -> None:
    space(text)
    try:
        code = run("sweep", "--trials=1")
    except SystemExit as error:  # of the parser of fit
        code = error.code
    assert code in (1, 2)
    printed = capsys.readouterr().err
    assert [word for word in named if word not in printed] == []
    assert "Traceback" not in printed
