"""What the chosen logger holds of a run, and whether the module reaches it as Lightning's pages say."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import PACKAGE, SMALL
from test_loggers import wandb_records
from trainings import bake, prepared, read_json
from warm import run

OPTIONS = {
    "data.batch_size": "16",
    "data.dataset": "digits",
    "seed_everything": "42",
    "trainer.max_epochs": "2",
    "trainer.precision": "32-true",
}
# Each is the line of a logger's own page; what it raises is written to a file.
OWN_LINES = {
    "wandb": 'import wandb; self.logger.experiment.log({"own": wandb.Histogram([1.0, 2.0])})',
    "tensorboard": 'import torch; self.logger.experiment.add_histogram("own", torch.ones(2), 0)',
    "mlflow": 'self.logger.experiment.log_text(self.logger.run_id, "own", "own.txt")',
}
OWN_LINE = f"""
from {PACKAGE}.module import ImageClassifier
def on_train_start(self, hook=ImageClassifier.on_train_start):
    hook(self)
    try:
        LINE
    except Exception as error:
        with open("raised.txt", "w") as file:
            print(type(error).__name__, error, file=file)
ImageClassifier.on_train_start = on_train_start
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that trains a run, a, with a logger, once, and returns the project."""
    projects: dict[str, Path] = {}

    def train(logger: str) -> Path:
        if logger not in projects:
            projects[logger] = bake(tmp_path_factory.mktemp(logger), logger=logger)
            before = OWN_LINE.replace("LINE", OWN_LINES[logger])
            prepared(projects[logger], ["fit", "--run=a", *SMALL], before=before)
        return projects[logger]

    return train


def flat(options: Any, prefix: str = "") -> dict[str, str]:
    """Options by their dotted names, as texts."""
    if isinstance(options, dict):
        return {k: v for name, value in options.items() for k, v in flat(value, f"{prefix}.{name}").items()}
    return {prefix.removeprefix(".").replace("/", "."): str(options)}


def of_wandb(project: Path) -> dict[str, str]:
    """The configuration that a W&B run has."""
    records = wandb_records(next((project / "runs/a/wandb").glob("offline-run-*/*.wandb")))
    updates = [item for record in records for config in (record.config, record.run.config) for item in config.update]
    return flat({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in updates})


def of_tensorboard(project: Path) -> dict[str, str]:
    """What TensorBoard's page of hyperparameters shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found: dict[str, str] = {}
    for file in (project / "runs/a/tensorboard").rglob("events.out.*"):
        for metadata in EventAccumulator(str(file)).Reload().summary_metadata.values():
            if metadata.plugin_data.plugin_name == "hparams":
                session = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
                found |= {name: _plain(value) for name, value in session.hparams.items()}
    return flat(found)


def _plain(value: Any) -> str:
    kind = value.WhichOneof("kind")
    return f"{value.number_value:g}" if kind == "number_value" else str(getattr(value, kind))


def of_mlflow(project: Path) -> dict[str, str]:
    """The parameters that an MLflow run has."""
    with sqlite3.connect(project / "runs" / "mlflow.db") as database:
        return flat(dict(database.execute("select key, value from params")))


@pytest.mark.parametrize("read", [of_wandb, of_tensorboard, of_mlflow], ids=lambda read: read.__name__[3:])
def test_a_logger_holds_every_option_of_a_run(logged, read):
    """``fit --run=a --logger=wandb``, tensorboard and mlflow, and what each has as parameters of the run."""
    project = logged(read.__name__[3:])
    held = read(project)

    assert {name: held.get(name) for name in OPTIONS} == OPTIONS
    assert held["fingerprint"] == read_json(project / "runs" / "a" / "run.json")["fingerprint"]


def test_a_resumed_run_keeps_the_parameters_that_mlflow_has(logged):
    """``fit --run=a --logger=mlflow`` and ``fit --resume=a --trainer.max_epochs=3``."""
    project = logged("mlflow")
    [(code, output)] = run(project, ["fit", "--resume=a", "--trainer.max_epochs=3"])

    assert code == 0, output
    assert of_mlflow(project).get("trainer.max_epochs") == "2"


@pytest.mark.parametrize("logger", OWN_LINES)
def test_the_logger_of_a_module_is_the_chosen_one(logged, logger):
    """``fit --run=a --logger=wandb`` of a module with ``self.logger.experiment.log({…: wandb.Histogram(…)})``."""
    raised = logged(logger) / "raised.txt"

    assert not raised.exists(), raised.read_text(encoding="utf-8")
