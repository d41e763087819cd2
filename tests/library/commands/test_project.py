"""The program's name, and `fit` and `load` from Python, which do what the commands do and leave nothing behind."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_runs import Project, UserError
from lightning_runs.commands import fit, version
from lightning_runs.commands.project import arguments_of
from lightning_runs.resume import signals
from written import assert_same, record, rows

TRAIN = """
from lightning_runs import run
from toy import Toy, ToyData

def main(args=None):
    return run(Toy, ToyData, args, package=__package__)
"""
SHORT = {"max_epochs": 2}


@pytest.fixture
def project(monkeypatch, own_folder) -> Iterator[Project]:
    monkeypatch.syspath_prepend(own_folder)
    Path("first").mkdir()
    Path("first/train.py").write_text(TRAIN)
    yield Project("first")
    for name in [name for name in sys.modules if name.partition(".")[0] == "first"]:
        del sys.modules[name]


@pytest.mark.parametrize(("wheel", "count"), [("1.0.0", 0), ("9.0.0", 1)])
def test_another_version_than_the_project_s_is_named_once(wheel, count, run, capsys) -> None:
    Path("pyproject.toml").write_text(f"[file:///p/vendor/lightning_runs-{wheel}-py3-none-any.whl]")
    version.warn_once.cache_clear()
    assert [run("runs"), run("runs")] == [0, 0]
    assert capsys.readouterr().err.count(f"needs lightning-runs {wheel}") == count


def state() -> dict[str, Any]:
    return {
        "arguments": list(sys.argv),
        "environment": dict(os.environ),
        "warnings": [warnings.formatwarning, *map(str, warnings.filters)],
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "threads": [torch.get_num_threads(), *(t.name for t in threading.enumerate() if "TMonitor" not in repr(t))],
    }


def test_python_does_what_the_commands_do(project, run) -> None:
    project.fit(run="zero", trainer=SHORT)  # what is imported then may set something
    before = state()
    trained: Any = project.fit(run="a", trainer=SHORT, early_stopping=None)
    assert trained.record["command"].startswith("python -m first fit --run=a")
    model = project.load(trained)
    predicted = model.predict()
    assert state() == before
    assert run("fit", "--run", "b", "--trainer.max_epochs=2", "--early_stopping.monitor=null") == 0
    assert_same("a", "b")
    assert model.metrics == {"test/loss": record("b", "test.json")["test/loss"]}
    assert run("predict", "--run", "b") == 0
    assert predicted == [{"prediction": float(row["prediction"])} for row in rows("b", "predictions.csv")]
    assert project.load().run.name == "b"


def test_a_mistake_is_an_error_with_the_message_of_the_command(project) -> None:
    for options, word in (({"max_epoch": 3}, "--trainer.max_epochs"), ({"devices": 10**6}, "devices")):
        with pytest.raises(UserError, match=word):
            project.fit(trainer=options)


def test_ctrl_c_is_that_of_python(project, monkeypatch) -> None:
    def stopped(*args: Any) -> None:
        raise signals.Stopped(signal.SIGINT)

    monkeypatch.setattr(fit, "run_trainer_command", stopped)
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        project.fit()
    assert list(arguments_of({"resume": True})) == ["--resume"]
