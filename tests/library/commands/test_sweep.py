"""A sweep ends with exactly its trials, whoever was killed; its best one can be trained again; mistakes are named."""

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from killed import kill, start
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from toy import Toy
from written import record, rows

LR = "space: {model.lr: {log_uniform: [1e-4, 1e-2]}}"
METRIC = "metric: val/loss, direction: minimize"
GRID = "sampler: {{class_path: optuna.samplers.GridSampler, init_args: {{search_space: {{{}}}}}}}"
PRUNER = "pruner: {class_path: optuna.pruners.ThresholdPruner, init_args: {upper: -1.0}}"


@pytest.fixture(autouse=True)
def space() -> Callable[[str], None]:
    """Write a search space; at first, one of a learning rate and a batch size."""

    def write(text: str) -> None:
        Path("configs/sweep.yaml").write_text(f"{{{text}}}", encoding="utf-8")

    write(f"{METRIC}, {LR[:-1]}, data.batch_size: {{choices: [8, 16]}}}}")
    return write


def states() -> list[str]:
    storage = JournalStorage(JournalFileBackend("runs/sweep/trials.log"))
    return [trial.state.name for trial in optuna.load_study(study_name="sweep", storage=storage).get_trials()]


def check_trials(count: int) -> list[str]:
    """So many trials have ended, and each is a run that has trained each of its three epochs once."""
    ended = Counter(states())
    assert ended["COMPLETE"] + ended["PRUNED"] == count
    assert ended["RUNNING"] == ended["WAITING"] == 0
    runs = [f"sweep-{number:03d}" for number in range(count)]
    assert sorted(path.name for path in Path("runs").glob("sweep-*")) == runs
    for run in runs:
        assert record(run)["status"] == "finished"
        assert [row["epoch"] for row in rows(run) if row["val/loss"]] == ["0", "1", "2"]
    return runs


def config(run: str) -> dict[str, Any]:
    return yaml.safe_load(Path(f"runs/{run}/config.yaml").read_text(encoding="utf-8"))


def test_the_best_trial_can_be_trained_again(run, capsys) -> None:
    assert run("sweep", "--trials=3") == 0
    losses = {name: min(float(row["val/loss"] or "inf") for row in rows(name)) for name in check_trials(3)}
    best = min(losses, key=lambda name: losses[name])
    printed = capsys.readouterr().out
    assert f"Best: {best}, val/loss {losses[best]:.4f}, of 3 complete" in printed
    command = shlex.split(printed.splitlines()[-1].partition("Next: ")[2])
    assert run(*command[3:], "--run=again") == 0
    assert rows("again") == rows(best)
    page = Path("runs/sweep/sweep.html").read_text(encoding="utf-8")
    assert all(name in page for name in losses)


def test_more_trials_are_added_to_those_that_have_ended(run, capsys) -> None:
    for count, started in ((1, 1), (1, 0), (2, 1)):
        assert run("sweep", f"--trials={count}") == 0
        assert capsys.readouterr().out.count(" starts: ") == started
        check_trials(count)


def test_a_killed_trial_is_resumed_and_the_rest_is_shared(run) -> None:
    kill("sweep", "--trials=4", "--save_every_n_steps=1", calls=8)
    lr = config("sweep-000")["model"]["lr"]
    other = start("sweep", "--trials=4")
    assert run("sweep", "--trials=4") == 0
    other.join()
    assert other.exitcode == 0
    check_trials(4)
    assert config("sweep-000")["model"]["lr"] == lr
    assert "resumed" in record("sweep-000")


MOMENTS = ("create_new_trial", "set_trial_param", "set_trial_intermediate_value", "set_trial_state_values")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize(
    "place",
    [
        *(f"optuna.storages:JournalStorage.{name}" for name in MOMENTS),
        "optuna.study:Study.ask",
        "lightning_runs.commands.trials:Trials.train",
        "lightning_runs.runs:Run.end",
    ],
)
def test_a_kill_between_two_writes_loses_no_trial(run, place: str, when: str, calls: int) -> None:
    kill("sweep", "--trials=2", place=place, calls=calls, when=when)
    assert run("sweep", "--trials=2") == 0
    check_trials(2)


def test_a_trial_is_pruned_also_after_it_was_killed(run, space, capsys) -> None:
    space(f"{METRIC}, {PRUNER}, {LR}")
    kill("sweep", "--trials=2", "--save_every_n_steps=1", calls=3)
    assert run("sweep", "--trials=2") == 1  # there is no best one
    assert states() == ["PRUNED", "PRUNED"]
    assert len([row for row in rows("sweep-000") if row["val/loss"]]) == 1
    assert "pruned" in capsys.readouterr().err


def test_a_diverged_trial_counts_as_pruned(run, space) -> None:
    space(f"{METRIC}, {GRID.format('model.lr: [0.01, 1.0e+30]')}, space: {{model.lr: {{choices: [0.01, 1.0e+30]}}}}")
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


def test_a_metric_that_is_not_logged_is_named(run, space, capsys) -> None:
    space(f"metric: val/acc, direction: maximize, {LR}")
    assert run("sweep", "--trials=2") == 1
    printed = capsys.readouterr().err
    assert "'val/acc'" in printed
    assert "val/loss" in printed


class Headlined(Toy):
    """Says which metric counts."""

    headline = ("loss", "min", "")


def test_without_a_metric_the_headline_is_searched(run, space) -> None:
    space(f"{GRID.format('data.batch_size: [8, 16]')}, space: {{data.batch_size: {{choices: [8, 16]}}}}")
    assert run("sweep", "--trials=2", module=Headlined) == 0
    assert sorted(config(name)["data"]["batch_size"] for name in check_trials(2)) == [8, 16]


# The text of a search space, and what its message names.
MISTAKES = [
    ("", ["space"]),
    ("[", ["line 1"]),
    (METRIC, ["space"]),
    (f"metric: val/loss, {LR}", ["direction"]),
    (f"{METRIC}, trials: 3, {LR}", ["trials"]),
    (f"direction: up, {LR}", ["direction", "'up'", "minimize"]),
    (f"{METRIC}, {LR}, pruner: {{class_path: optuna.pruners.Median}}", ["optuna.pruners", "Median"]),
    (f"{METRIC}, space: {{model.lr: {{range: [1, 2]}}}}", ["model.lr", "range", "log_uniform"]),
    (f"{METRIC}, space: {{model.lr: {{uniform: [low, 1]}}}}", ["model.lr", "low", "uniform"]),
    (f"{METRIC}, space: {{model.lr: {{int: [16]}}}}", ["model.lr", "[16]"]),
    (f"{METRIC}, space: {{model.lr: {{int: [16, 8]}}}}", ["model.lr", "[16, 8]"]),
    (f"{METRIC}, space: {{model.lr: {{log_uniform: [0, 1]}}}}", ["model.lr", "[0, 1]"]),
    (f"{METRIC}, space: {{data.batch_size: {{choices: [8, many]}}}}", ["data.batch_size", "'many'"]),
    (f"{METRIC}, space: {{data.batch_sise: {{choices: [8]}}}}", ["data.batch_sise", "data.batch_size"]),
    (f"{METRIC}, space: {{lr: {{choices: [1]}}}}", ["--lr", "model.lr"]),
]


@pytest.mark.parametrize(("text", "named"), MISTAKES)
def test_a_mistake_in_the_space_is_named_with_its_file(run, space, capsys, text: str, named: list[str]) -> None:
    space(text)
    assert run("sweep", "--trials=1") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert all(word in printed for word in ("configs/sweep.yaml", *named)), printed
    assert not Path("runs").exists()


@pytest.mark.parametrize(("option", "named"), [("--trials=0", "--trials is 0"), ("--space=no.yaml", "no.yaml")])
def test_a_wrong_option_of_the_sweep_is_named(run, capsys, option: str, named: str) -> None:
    assert run("sweep", option) == 1
    assert named in capsys.readouterr().err
    assert not Path("runs").exists()
