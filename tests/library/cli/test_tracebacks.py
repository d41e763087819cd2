"""An error in the user's code keeps its traceback and its run; a mistake in an option or a file is one line."""

from typing import Any

import pytest
import torch
from lightning_runs.cli.messages import message
from lightning_runs.errors import UserError
from toy import Toy, ToyData, assert_fails
from written import record


class Opens(Toy):
    def on_train_start(self) -> None:
        open("vocab.txt")  # noqa: SIM115


class LogsText(Toy):
    def on_train_start(self) -> None:
        self.log("x", "0.5")  # pyright: ignore[reportArgumentType]


class NegativeRate(Toy):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=-1)


class BadItems(ToyData):
    def __init__(self) -> None:
        super().__init__(num_workers=1)

    def dataset(self, count: int, seed: int) -> Any:
        return self

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        raise KeyError("no such item")


@pytest.mark.parametrize(
    ("module", "data", "line"),
    [
        (LogsText, ToyData, 'self.log("x", "0.5")'),
        (Opens, ToyData, 'open("vocab.txt")'),
        (NegativeRate, ToyData, "lr=-1"),
        (Toy, BadItems, 'raise KeyError("no such item")'),
    ],
)
def test_an_error_in_own_code_keeps_traceback_and_run(module, data, line, run, capsys) -> None:
    assert run("fit", "--run", "a", module=module, data=data) == 1
    error = capsys.readouterr().err
    assert "test_tracebacks.py" in error
    assert line in error
    assert "pytorch_lightning/loops" not in error
    assert data is BadItems or "lightning_runs/commands" not in error
    assert record("a")["status"] == "failed"


class Refuses(Toy):
    def on_train_start(self) -> None:
        raise UserError("data.root is nowhere.")


def test_what_the_library_refuses_is_one_line(run, capsys) -> None:
    assert run("fit", "--run", "a", module=Refuses) == 1
    assert capsys.readouterr().err == "error: data.root is nowhere.\n"
    with pytest.raises(UserError, match="nowhere"):
        run("fit", "--traceback", module=Refuses)


def test_of_an_error_of_another_process_the_cause_is_printed() -> None:
    assert message(UserError("Caught UserError in a worker\nerrors.UserError: the cause.")) == "the cause."


class Vocabulary(ToyData):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()

    @property
    def width(self) -> int:
        return self.size

    def setup(self, stage: str) -> None:
        self.size = 4


class Unready(Vocabulary):
    def setup(self, stage: str) -> None:
        """Read nothing."""


class Wide(Toy):
    def __init__(self, width: int, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.layer = torch.nn.Linear(width, 1)


def test_a_linked_property_may_need_setup_and_cannot_be_set(run) -> None:
    assert run("fit", "--run", "a", module=Wide, data=Vocabulary) == 0
    assert record("a")["linked"] == {"width": "4"}
    for option, source in (("--model.width", "the data module's width"), ("--data.seed", "--seed_everything")):
        assert_fails([option, source], "fit", f"{option}=3", module=Wide, data=Vocabulary, code=2)


def test_a_linked_property_that_fails_is_named(run, capsys) -> None:
    assert run("fit", module=Wide, data=Unready) == 1
    error = capsys.readouterr().err
    assert "return self.size" in error
    assert [word for word in ("error: ", "width", "AttributeError") if word not in error.splitlines()[-1]] == []
