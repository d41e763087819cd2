"""What `sweep` and `repeat` share: the command of a run, a resume by the same command, and refusals."""

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from toy import Toy
from written import record, rows

# Each command with its first run.
COMMANDS = {"NAME-000": ["sweep", "NAME", "--trials=1"], "NAME-seed-1": ["repeat", "NAME", "--seeds=2"]}
SPACE = "{metric: val/loss, direction: minimize, space: {model.lr: {log_uniform: [1e-4, 1e-2]}}}"


@pytest.fixture(params=COMMANDS)
def first_run(request: pytest.FixtureRequest) -> str:
    """The first run of a command named NAME."""
    Path("configs/sweep.yaml").write_text(SPACE, encoding="utf-8")
    return request.param


@pytest.fixture
def args(first_run: str) -> list[str]:
    """The command."""
    return COMMANDS[first_run]


class Spy(Toy):
    """Keeps the command line by which Lightning would start the processes of other devices, and leaves a variable."""

    seen: list[list[str]] = []

    def on_fit_start(self) -> None:
        """Look at the command line."""
        Spy.seen.append(sys.argv[1:])
        os.environ["LEFT_BY_A_LAUNCHER"] = "1"


def test_the_recorded_command_repeats_a_run(run, args, first_run) -> None:
    Spy.seen.clear()
    before = list(sys.argv)
    assert run(*args, "--trainer.max_epochs=2", module=Spy) == 0
    assert (sys.argv, os.environ.get("LEFT_BY_A_LAUNCHER")) == (before, None)
    command = shlex.split(record(first_run)["command"])
    assert command[:3] == ["python", "-m", "toy_project"]
    assert command[3:] == Spy.seen[0]
    again = [argument for argument in command[3:] if not argument.startswith(("--run", "--resume"))]
    assert run(*again, "--run=again") == 0
    assert rows("again") == rows(first_run)


def test_a_stopped_command_is_resumed_by_the_same_command(run, args, first_run, capsys, monkeypatch) -> None:
    whole_step = Toy.training_step

    def step(self: Toy, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return whole_step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "training_step", step)
        assert run(*args) == 130
    assert f"toy_project {shlex.join(args)}" in capsys.readouterr().err
    assert run(*args) == 0
    assert f"{first_run} resumes" in capsys.readouterr().out
    assert [row["epoch"] for row in rows(first_run) if row["val/loss"]] == ["0", "1", "2"]


@pytest.mark.parametrize("option", ["--run=a", "--resume", "--ckpt_path", "--trainer.fast_dev_run=1"])
def test_an_option_of_single_runs_is_refused(run, args, capsys, option: str) -> None:
    assert (run(*args, option), Path("runs").exists()) == (1, False)
    assert option in capsys.readouterr().err


def test_a_changed_option_is_refused_with_both_values(run, args, capsys) -> None:
    assert run(*args) == 0
    assert run(*args, "--data.batch_size=4", "--save_every_n_steps=7") == 1
    assert "data.batch_size is 4 and was 8" in capsys.readouterr().err
    assert run(*args, "--trainer.max_epochs=4") == 1  # which a single run may change
    assert "trainer.max_epochs is 4 and was 3" in capsys.readouterr().err
    assert run(*args, "--save_every_n_steps=7") == 0


def test_a_second_process_and_runs_of_others_are_refused(run, args, first_run, have, capsys) -> None:
    Path("runs/NAME").mkdir(parents=True)
    with FileLock("runs/NAME/.lock"):
        assert run(*args) == 1
    assert "NAME is in use" in capsys.readouterr().err
    have("finished", first_run)
    assert run(*args) == 1
    assert str(Path("runs") / first_run) in capsys.readouterr().err
