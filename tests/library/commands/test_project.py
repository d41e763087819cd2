"""The program's name, and `fit` and `load` from Python, which do what the commands do and leave nothing behind."""

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs import Project, UserError, names
from lightning_runs.commands import version
from toy import Toy
from written import assert_same, record, rows

TRAIN = """
from lightning_runs import run
from toy import Toy, ToyData

def main(args=None):
    return run(Toy, ToyData, args, package=__package__)
"""
MAIN = "from . import project\nmain = project.main\nif __name__ == '__main__':\n    raise SystemExit(main())\n"
SHORT = {"max_epochs": 2}


def make_package(name: str) -> Project:
    Path(name).mkdir()
    Path(name, "__init__.py").write_text("from lightning_runs import Project\nproject = Project(__name__)\n")
    Path(name, "train.py").write_text(TRAIN)
    Path(name, "__main__.py").write_text(MAIN)
    return Project(name)


@pytest.fixture
def project(monkeypatch, own_folder):
    """A package with the toy's classes."""
    monkeypatch.syspath_prepend(own_folder)
    names = {"first", "second"} & set(sys.modules)
    yield make_package("first")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("first", "second") and name not in names]:
        del sys.modules[name]


def test_two_projects_of_one_process_print_their_own_names(project, capsys) -> None:
    models = []
    for number, one in enumerate((project, make_package("second"), project)):
        program = f"python -m {one.package}"
        assert one.main(["--help"]) == 0
        assert one.main(["fit", f"--run=of_main_{number}", "--trainer.max_epochs=1"]) == 0
        trained = one.fit(run=f"of_python_{number}", trainer=SHORT)
        assert trained is not None
        output = capsys.readouterr().out
        assert output.count(f"{program} ") == output.count("python -m ") > 0
        assert record(f"of_main_{number}")["command"].startswith(f"{program} fit --run=of_main")
        assert trained.record["command"] == f"{program} fit --run=of_python_{number} --trainer.max_epochs=2"
        models.append(one.load(trained))
    models[1].predict()
    assert names.program() == "python -m second"


@pytest.mark.parametrize(
    "start",
    [
        ["-m", "first"],
        ["-c", "import sys; sys.argv[0] = 'bin/first'; from first.__main__ import main; sys.exit(main())"],
        ["-m", "torch.distributed.run", "--nproc-per-node=1", "-m", "--", "first"],
    ],
    ids=["python -m", "console script", "torchrun"],
)
def test_the_name_is_right_however_the_program_is_started(start, project) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *start, "--help"], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m first COMMAND"), done.stderr


def test_a_script_without_a_package_is_named_by_its_file(own_folder) -> None:
    Path("train.py").write_text(TRAIN + "\nraise SystemExit(main())\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "train.py", "--help"], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python train.py COMMAND"), done.stderr


@pytest.mark.parametrize(
    ("requirement", "warns"),
    [
        ("lightning-runs @ file:///p/vendor/lightning_runs-1.0.0-py3-none-any.whl", False),
        ("lightning-runs @ file:///p/vendor/lightning_runs-9.0.0-py3-none-any.whl", True),
        ("lightning-runs>=1,<2", False),
        ("lightning-runs>=9", True),
        ('lightning-runs[sweep] ; extra == "sweep"', False),
        ("torch>=2.8", False),
    ],
)
def test_another_version_than_the_project_s_is_named_once(requirement, warns, run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(version.metadata, "requires", lambda package: ["numpy", requirement])
    version.warn_once.cache_clear()
    assert [run("runs"), run("runs")] == [0, 0]
    assert capsys.readouterr().err.count("pip install -e .") == warns


def test_a_wheel_newer_than_the_installation_is_warned_of(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(version.metadata, "requires", lambda package: ["lightning-runs>=1,<2"])
    Path("pyproject.toml").write_text('["lightning-runs @ {root:uri}/vendor/lightning_runs-1.1.0-py3-none-any.whl"]')
    version.warn_once.cache_clear()
    assert run("runs") == 0
    assert "lightning_runs-1.1.0" in capsys.readouterr().err


def state() -> dict[str, Any]:
    """Return what a call may leave behind."""
    logs = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")
    owners = (pl.Trainer, pl.LightningModule, torch.nn.Module, torch.Tensor)
    return {
        "methods": {f"{o.__name__}.{k}": id(v) for o in owners for k, v in vars(o).items() if callable(v)},
        "directory": Path.cwd(),
        "arguments": list(sys.argv),
        "environment": dict(os.environ),
        "warnings": [warnings.formatwarning, *map(str, warnings.filters)],
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "threads": [torch.get_num_threads(), *(t.name for t in threading.enumerate() if "TMonitor" not in repr(t))],
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "logs": [len(logging.getLogger(name).filters) for name in logs],
    }


def test_python_does_what_the_commands_do(project, run) -> None:
    project.fit(run="zero", trainer=SHORT)  # what is imported then may set something
    before = state()
    trained = project.fit(run="a", trainer=SHORT, early_stopping=None)
    model = project.load(trained)
    predicted = model.predict()
    assert state() == before
    assert run("fit", "--run", "b", "--trainer.max_epochs=2", "--early_stopping=null") == 0
    assert_same("a", "b")
    assert model.metrics == {"test/loss": record("b", "test.json")["test/loss"]}
    assert run("predict", "--run", "b") == 0
    expected = [{"prediction": float(row["prediction"])} for row in rows("b", "predictions.csv")]
    assert predicted == expected
    assert project.load().run.name == "b"


def test_an_array_is_predicted_by_forward(project, monkeypatch) -> None:
    monkeypatch.setattr(Toy, "forward", lambda self, numbers: self.layer(numbers)[:, 0], raising=False)
    model = project.load(project.fit(run="a", trainer=SHORT))
    numbers = torch.ones(2, 4)
    expected = model.module.layer(numbers)[:, 0].tolist()
    assert [row["prediction"] for row in model.predict(numbers.numpy())] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"trainer": {"max_epoch": 3}}, "--trainer.max_epochs"), ({"trainer": {"devices": 0}}, "devices")],
)
def test_a_mistake_is_an_error_with_the_message_of_the_command(options, word, project) -> None:
    with pytest.raises(UserError, match=word):
        project.fit(**options)
    with pytest.raises(UserError, match="none"):
        project.load("none")


def test_ctrl_c_can_be_caught_and_the_run_resumed(project, monkeypatch) -> None:
    step = Toy.training_step

    def interrupted(self: Toy, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 4 and record("a")["status"] == "running":
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Toy, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.fit(run="a", trainer=SHORT)
    monkeypatch.undo()
    sys.path.insert(0, str(Path.cwd()))
    resumed = project.fit(resume=True).record
    assert (resumed["status"], resumed["command"]) == ("finished", "python -m first fit --run=a --trainer.max_epochs=2")
    sys.path.pop(0)
