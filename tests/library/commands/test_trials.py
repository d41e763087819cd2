"""What `sweep` and `repeat` share: the command of a run, a resume by the same command, and refusals."""

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from toy import Toy
from written import record, rows

# Each command with its first run, and what it calls the folder's record.
COMMANDS = {"sweep": (["sweep", "NAME", "--trials=1"], "000"), "repeat": (["repeat", "NAME", "--seeds=2"], "seed-1")}
SPACE = "{metric: val/loss, direction: minimize, space: {model.lr: {log_uniform: [1e-4, 1e-2]}}}"


@pytest.fixture(params=COMMANDS)
def args(request: pytest.FixtureRequest) -> list[str]:
    """A command named NAME."""
    Path("configs/sweep.yaml").write_text(SPACE, encoding="utf-8")
    return COMMANDS[request.param][0]


def first_run(args: list[str]) -> str:
    return f"NAME-{COMMANDS[args[0]][1]}"


class Spy(Toy):
    """Keeps the command line by which Lightning would start the processes of other devices, and leaves a variable."""

    seen: list[list[str]] = []  # noqa: RUF012

    def on_fit_start(self) -> None:
        """Look at the command line."""
        Spy.seen.append(sys.argv[1:])
        os.environ["LEFT_BY_A_LAUNCHER"] = "1"


def test_the_recorded_command_repeats_a_run(run, args) -> None:
    Spy.seen.clear()
    before = list(sys.argv)
    assert run(*args, "--trainer.max_epochs=2", module=Spy) == 0
    assert (sys.argv, os.environ.get("LEFT_BY_A_LAUNCHER")) == (before, None)
    command = shlex.split(record(first_run(args))["command"])
    assert command[:3] == ["python", "-m", "toy_project"]
    assert command[3:] == Spy.seen[0]
    again = [argument for argument in command[3:] if not argument.startswith(("--run", "--resume"))]
    assert run(*again, "--run=again") == 0
    assert rows("again") == rows(first_run(args))


def test_a_stopped_command_is_resumed_by_the_same_command(run, args, capsys, monkeypatch) -> None:
    whole_step = Toy.training_step

    def step(self: Toy, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return whole_step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "training_step", step)
        assert exit_code(run, *args) == 130
    assert f"toy_project {shlex.join(args)}" in capsys.readouterr().err
    assert run(*args) == 0
    assert f"{first_run(args)} resumes" in capsys.readouterr().out
    assert [row["epoch"] for row in rows(first_run(args)) if row["val/loss"]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--run=a"], 1, "--run=a"),
        (["--resume"], 1, "--resume"),
        (["--ckpt_path", "x"], 1, "--ckpt_path"),
        (["--trainer.fast_dev_run=1"], 1, "trainer.fast_dev_run"),
        (["--data.bach_size=3"], 2, "--data.bach_size"),
    ],
)
def test_a_wrong_option_of_fit_is_named_before_a_run(run, args, capsys, options, code: int, named: str) -> None:
    assert (exit_code(run, *args, *options), Path("runs").exists()) == (code, False)
    assert named in capsys.readouterr().err


def exit_code(run: Any, *args: str) -> int:
    try:
        return run(*args)
    except SystemExit as error:
        return int(error.code or 0)


def test_a_changed_option_is_refused_with_both_values(run, args, capsys) -> None:
    assert run(*args) == 0
    assert run(*args, "--data.batch_size=4", "--save_every_n_steps=7") == 1
    assert "data.batch_size is 4 and was 8" in capsys.readouterr().err
    assert run(*args, "--trainer.max_epochs=4") == 1  # which a single run may change
    assert "trainer.max_epochs is 4 and was 3" in capsys.readouterr().err
    assert run(*args, "--save_every_n_steps=7") == 0


def test_runs_of_others_are_not_counted(run, args, have, capsys) -> None:
    have("finished", first_run(args))
    assert run(*args) == 1
    assert str(Path("runs") / first_run(args)) in capsys.readouterr().err
    have("finished", "other")
    assert run(args[0], "other", *args[2:]) == 1
    assert str(Path("runs/other/config.yaml")) in capsys.readouterr().err
