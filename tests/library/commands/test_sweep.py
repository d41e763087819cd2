"""Sweeps end with exactly their trials, whatever was killed; `repeat` shares the work on many runs with them."""

import shlex
import sys
from pathlib import Path

import optuna
import pytest
import torch
from filelock import FileLock
from killed import kill
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from toy import Toy, ToyData, answer, assert_fails
from written import record, rows

METRIC = "metric: val/loss, direction: minimize"
LR = f"{METRIC}, space: {{model.lr: {{log_uniform: [1e-4, 1e-2]}}}}"


def write_space(text: str) -> None:
    Path("configs/sweep.yaml").write_text(f"{{{text}}}", encoding="utf-8")


@pytest.fixture(autouse=True)
def space(own_folder: Path) -> None:
    write_space(f"{LR[:-1]}, data.batch_size: {{choices: [8, 16]}}}}")


def states() -> list[str]:
    storage = JournalStorage(JournalFileBackend("runs/sweep/trials.log"))
    return [trial.state.name for trial in optuna.load_study(study_name="sweep", storage=storage).get_trials()]


def test_trials_are_added_and_the_best_one_can_be_repeated(run, capsys) -> None:
    for count in (1, 1, 3):
        assert run("sweep", f"--trials={count}") == 0
        assert states() == ["COMPLETE"] * count
    names = [f"sweep-{number:03d}" for number in range(3)]
    losses = {min(float(row["val/loss"]) for row in rows(name) if row["val/loss"]): name for name in names}
    printed = capsys.readouterr().out
    assert printed.count(" starts: ") == 3
    assert f"Best: {losses[min(losses)]}, val/loss {min(losses):.4f}" in printed
    assert list(Path("runs").glob("*/test.json")) == []
    command = shlex.split(printed.splitlines()[-1].partition("Next: ")[2])
    assert run(*command[3:], "--run=again", "--test=false") == 0
    assert rows("again") == rows(losses[min(losses)])


def test_a_diverged_trial_counts_as_pruned(run) -> None:
    write_space(f"{METRIC}, space: {{model.lr: {{choices: [1.0e+30]}}}}")
    assert run("sweep", "--trials=1") == 1
    assert states() == ["PRUNED"]


def test_a_trial_is_pruned_also_after_it_was_killed() -> None:
    write_space(f"{LR}, pruner: {{class_path: optuna.pruners.ThresholdPruner, init_args: {{upper: -1.0}}}}")
    kill("sweep", "--trials=2", "--save_every_n_steps=1", calls=3)
    assert_fails("no trial is complete", "sweep", "--trials=2")
    assert states() == ["PRUNED", "PRUNED"]
    assert len([row for row in rows("sweep-000") if row["val/loss"]]) == 1


def test_three_failures_in_a_row_end_a_sweep_with_the_traceback(run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Toy, "training_step", lambda self, batch, batch_idx: torch.zeros(3) + torch.zeros(4))
    assert run("sweep", "--trials=2") == 1
    assert states() == ["FAIL"] * 3
    printed = capsys.readouterr().err
    assert printed.count("test_sweep.py") == 3
    assert "3 trials in a row have failed" in printed


# The text of a search space, and what its message names.
MISTAKES = [
    ("[", "line 1"),
    (METRIC, "space"),
    (LR.replace("minimize", "up"), "direction 'up' minimize"),
    (LR.replace("val/loss", "val/acc"), "val/acc sweep-000"),
    (f"{METRIC}, space: {{model.lr: {{range: [1, 2]}}}}", "model.lr range log_uniform"),
    (f"{METRIC}, space: {{model.lr: {{int: [16, 8]}}}}", "model.lr 16 8"),
    (f"{METRIC}, space: {{data.batch_size: {{choices: [8, many]}}}}", "data.batch_size 'many'"),
    (f"{METRIC}, space: {{data.batch_sise: {{choices: [8]}}}}", "data.batch_sise data.batch_size"),
]


@pytest.mark.parametrize(("text", "named"), MISTAKES)
def test_a_mistake_in_the_space_is_named(text, named) -> None:
    write_space(text)
    code, printed = answer(Toy, ToyData, ["sweep", "--trials=1"], "toy_project")
    assert code in (1, 2)
    assert [word for word in ("configs/sweep.yaml", *named.split()) if word not in printed] == []
    assert "Traceback" not in printed


# Each command with its runs.
COMMANDS = {
    "sweep": (["sweep", "NAME", "--trials=2"], ["NAME-000", "NAME-001"]),
    "repeat": (["repeat", "NAME", "--seeds=2"], ["NAME-seed-1", "NAME-seed-2"]),
}


def check_runs(names: list[str]) -> None:
    assert sorted(path.name for path in Path("runs").glob("NAME-*")) == names
    for name in names:
        assert record(name)["status"] == "finished"
        assert [row["epoch"] for row in rows(name) if row["val/loss"]] == ["0", "1", "2"]


class Spy(Toy):
    seen: list[list[str]] = []  # the command lines by which Lightning would start the processes of other devices

    def on_fit_start(self) -> None:
        Spy.seen.append(sys.argv[1:])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_run_ends_like_one_that_was_left_alone(command, run) -> None:
    args, names = COMMANDS[command]
    args = [*args, "--save_every_n_steps=1"]
    kill(*args, calls=8)
    Spy.seen.clear()
    assert run(*args, module=Spy) == 0
    check_runs(names)
    recorded = shlex.split(record(names[0])["command"])
    assert recorded == ["python", "-m", "toy_project", *Spy.seen[0]]
    again = [argument for argument in recorded[3:] if not argument.startswith(("--run", "--resume"))]
    assert run(*again, "--run=again") == 0
    assert rows("again") == rows(names[0])


PLACES = ["lightning_runs.commands.trials:Trials.train", *(f"lightning_runs.runs:Run.{n}" for n in ("begin", "end"))]
MOMENTS = ("create_new_trial", "set_trial_param", "set_trial_intermediate_value", "set_trial_state_values")
CASES = [(command, place) for command in COMMANDS for place in PLACES]
CASES += [("sweep", f"optuna.storages:JournalStorage.{moment}") for moment in MOMENTS]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize(("command", "place"), CASES)
def test_a_kill_between_two_writes_loses_no_run(command, place, calls, when, run) -> None:
    args, names = COMMANDS[command]
    kill(*args, place=place, calls=calls, when=when)
    assert run(*args) == 0
    check_runs(names)


@pytest.mark.parametrize("option", ["--run=a", "--resume", "--ckpt_path", "--trainer.fast_dev_run=1"])
def test_an_option_of_single_runs_is_refused(option) -> None:
    assert_fails(option, "repeat", "--seeds=2", option)
    assert not Path("runs").exists()


def test_a_changed_option_is_refused_with_both_values(run) -> None:
    assert run("sweep", "--trials=1") == 0
    assert_fails("data.batch_size is 4 and was 8", "sweep", "--trials=1", "--data.batch_size=4")
    # which a single run may change
    assert_fails("trainer.max_epochs is 4 and was 3", "sweep", "--trials=1", "--trainer.max_epochs=4")
    assert run("sweep", "--trials=1", "--save_every_n_steps=7") == 0


def test_a_second_process_and_runs_of_others_are_refused(have) -> None:
    have("finished", "repeat-seed-1")
    Path("runs/repeat").mkdir()
    with FileLock("runs/repeat/.lock"):
        assert_fails("process", "repeat", "--seeds=2")
    assert_fails("repeat-seed-1 exists", "repeat", "--seeds=2")
