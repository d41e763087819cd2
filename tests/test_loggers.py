"""What each logger holds, read back by its own reader, against the numbers that the training itself had.

Every run here is interrupted in its second epoch and resumed, and is one run all the same. The chosen logger is
``self.logger`` of the module, as Lightning's documentation has it, and it has every option of the run.
"""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import PACKAGE, SMALL, clean_environment
from warm import run

METRICS = {"train/loss_step", "train/accuracy_step", "val/loss", "val/accuracy", "val/f1"}
METRICS |= {"test/loss", "test/accuracy", "test/f1"}
# By metric and optimizer step.
Values = dict[str, dict[int, float]]

# A callback as a user may write one: it asks the Trainer, knows of no logger, and has the run stopped once.
RECORDER = """
import json, os, signal
from pytorch_lightning.callbacks import Callback

class Recorder(Callback):
    def record(self, trainer, split, step):
        values = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith(split)}
        with open("recorded.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "values": values}) + "\\n")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.record(trainer, "train/", trainer.global_step - 1)
        if os.environ.get("STOP_AT") == str(trainer.global_step):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.record(trainer, "val/", trainer.global_step - 1)

    def on_test_end(self, trainer, module):
        self.record(trainer, "test/", trainer.global_step)
        with open("loggers.json", "w") as file:
            json.dump([type(logger).__name__ for logger in [module.logger, *module.loggers]], file)
"""


def interrupted_and_resumed(project: Path, **environment: str) -> tuple[Path, Values]:
    """Train three epochs of three steps, stopped after step 5 and resumed; return the run's folder and its numbers."""
    (project / "recorder.py").write_text(RECORDER)
    first = ["fit", "--run=a", *SMALL, "--trainer.max_epochs=3", "--trainer.callbacks+=recorder.Recorder"]
    [(stopped, output)] = run(project, first, environment={**environment, "STOP_AT": "5"})
    assert stopped == 143, output
    assert _status(project) == "interrupted"
    [(code, output)] = run(project, ["fit", "--resume=a"], environment=environment)
    assert code == 0, output
    assert _status(project) == "finished"
    own: Values = {}
    for line in (project / "recorded.jsonl").read_text().splitlines():
        row = json.loads(line)
        for metric, value in row["values"].items():
            own.setdefault(metric, {})[row["step"]] = value
    assert own.keys() >= METRICS
    assert list(own["train/loss_step"]) == list(range(9))
    assert [len(own[metric]) for metric in ("val/loss", "test/loss")] == [3, 1]
    return project / "runs" / "a", own


def _status(project: Path) -> str:
    return json.loads((project / "runs" / "a" / "run.json").read_text())["status"]


def assert_equal(logged: Values, own: Values) -> None:
    """Compare all metrics of a training, at every step."""
    assert {metric: logged.get(metric) for metric in METRICS} == {
        metric: pytest.approx(own[metric], rel=1e-5) for metric in METRICS
    }


def rows(run_folder: Path) -> list[dict[str, str]]:
    with (run_folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def loggers_of(run_folder: Path) -> list[str]:
    """The classes of ``self.logger`` and of ``self.loggers``."""
    return json.loads((run_folder.parents[1] / "loggers.json").read_text())


def options_of(run_folder: Path) -> dict[str, str]:
    """Every option of a run as text, by its dotted name; lists are left out, which loggers spread."""

    def flat(options: Any, prefix: str = "") -> dict[str, str]:
        if isinstance(options, dict):
            return {k: v for n, value in options.items() for k, v in flat(value, f"{prefix}.{n}".lstrip(".")).items()}
        return {} if isinstance(options, list) else {prefix: "null" if options is None else str(options)}

    found = flat(yaml.safe_load((run_folder / "config.yaml").read_text(encoding="utf-8")))
    assert {"seed_everything", "data.batch_size", "model.optimizer.init_args.lr", "trainer.max_epochs"} <= found.keys()
    return found


def assert_csv_equals(run_folder: Path, own: Values) -> None:
    logged: Values = {}
    for row in rows(run_folder):
        for metric in METRICS:
            if row[metric]:
                logged.setdefault(metric, {})[int(row["step"])] = float(row[metric])
    assert_equal(logged, own)
    assert {"epoch", "step", "lr-AdamW"} <= rows(run_folder)[0].keys()


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_without_a_service_the_metrics_are_rows_and_the_pictures_files(bake_project, logger):
    folder, own = interrupted_and_resumed(bake_project({"logger": logger}))

    pictures = {path.name for path in (folder / "images").glob("*.png")}
    assert pictures == {"test_examples.png", "val_epoch_000_examples.png"}
    assert loggers_of(folder) == (["MetricsCSV", "MetricsCSV"] if logger == "csv" else ["NoneType"])
    result = json.loads((folder / "test.json").read_text())
    for metric in ("test/loss", "test/accuracy"):
        assert result[metric] == pytest.approx(own[metric][9])
    if logger == "csv":
        assert_csv_equals(folder, own)
    else:
        assert not (folder / "metrics.csv").exists()


def test_tensorboard_reads_the_metrics_the_options_and_the_pictures_back(bake_project):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder, own = interrupted_and_resumed(bake_project({"logger": "tensorboard"}))

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"val/examples", "test/examples"} <= set(tags["images"])
    assert loggers_of(folder) == ["TensorBoardLogger", "TensorBoardLogger", "MetricsCSV"]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert options_of(folder).keys() <= set(values)
    assert values["model.optimizer.init_args.lr"].number_value == 0.003
    assert_equal({m: {event.step: event.value for event in events.Scalars(m)} for m in METRICS}, own)
    assert_csv_equals(folder, own)
    # one run in TensorBoard: a folder
    assert {file.parent for file in folder.parent.rglob("events.out.*")} == {folder / "tensorboard"}
    (image, *_) = events.Images("test/examples")
    assert (image.width, image.height) == (512, 576)


def assert_mlflow_equals(uri: str, folder: Path, own: Values) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("my-lightning-project")
    assert experiment
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("a", "FINISHED")
    identity = found.info.run_id
    assert_equal({m: {p.step: p.value for p in client.get_metric_history(identity, m)} for m in METRICS}, own)
    for split in ("val", "test"):
        pictures = [file.path for file in client.list_artifacts(identity, split)]
        assert any("examples" in name for name in pictures)
    assert options_of(folder).items() <= found.data.params.items()
    assert loggers_of(folder) == ["MLFlowLogger", "MLFlowLogger", "MetricsCSV"]
    assert_csv_equals(folder, own)


def test_mlflow_reads_one_run_with_metrics_and_pictures_from_the_database_beside_the_runs(bake_project):
    folder, own = interrupted_and_resumed(bake_project({"logger": "mlflow"}))

    assert_mlflow_equals(f"sqlite:///{folder.parent / 'mlflow.db'}", folder, own)


def test_a_server_that_goes_away_in_mid_run_is_told_in_a_sentence_and_the_run_goes_on(bake_project):
    project = bake_project({"logger": "mlflow"})
    before = """
from mlflow import exceptions, tracking

calls, log_batch = [], tracking.MlflowClient.log_batch

def gone(self, *args, **kwargs):
    raise exceptions.MlflowException("API request failed with exception Connection refused")

def log(self, *args, **kwargs):
    calls.append(args)
    if len(calls) == 4:
        tracking.MlflowClient.log_batch = tracking.MlflowClient.set_terminated = gone
    return log_batch(self, *args, **kwargs)

tracking.MlflowClient.log_batch = log
"""
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL], before=before)
    assert code == 1, output
    assert "Traceback" not in output
    assert "error: MLflow can't be used: API request failed with exception Connection refused. Start its" in output
    assert _status(project) == "failed"

    [(code, output)] = run(project, ["fit", "--resume"])

    assert code == 0, output
    assert _status(project) == "finished"


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """Start ``mlflow server`` on this machine alone, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = [f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/artifacts"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--host=127.0.0.1", "--workers=1", *store],
            env=clean_environment(tmp_path / "server"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 180
        while True:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < end, (tmp_path / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


@pytest.mark.timeout(400)
def test_an_mlflow_server_holds_one_run_with_metrics_and_pictures(bake_project, mlflow_server):
    folder, own = interrupted_and_resumed(bake_project({"logger": "mlflow"}), MLFLOW_TRACKING_URI=mlflow_server)

    assert_mlflow_equals(mlflow_server, folder, own)
    assert not (folder.parent / "mlflow.db").exists()


def test_wandb_without_a_key_holds_one_run_offline_with_metrics_options_and_pictures(bake_project):
    folder, own = interrupted_and_resumed(bake_project({"logger": "wandb"}))

    offline = sorted((folder / "wandb").glob("offline-run-*"))
    identity = json.loads((folder / "run.json").read_text())["logged_as"]["wandb"]
    assert len(offline) == 2  # the run and its resumption …
    assert {path.name.rsplit("-", 1)[1] for path in offline} == {identity}  # … which are one run for W&B
    logged: Values = {}
    media: dict[str, Any] = {}
    config: dict[str, str] = {}
    for path in offline:
        records = wandb_records(next(path.glob("*.wandb")))
        assert {record.run.run_id for record in records if record.HasField("run")} == {identity}
        config |= {item.key: item.value_json for record in records for item in record.run.config.update}
        config |= {item.key: item.value_json for record in records for item in record.config.update}
        for record in records:
            row: dict[str, Any] = {}
            for item in record.history.item:
                *outer, key = item.nested_key or [item.key]
                reduce(lambda inner, name: inner.setdefault(name, {}), outer, row)[key] = json.loads(item.value_json)
            media |= {name: row[name] for name in row if name.endswith("/examples")}
            for metric in METRICS & row.keys():
                logged.setdefault(metric, {})[row["trainer/global_step"]] = row[metric]
    assert_equal(logged, own)
    assert_csv_equals(folder, own)
    assert options_of(folder).keys() <= config.keys()
    assert config["model.optimizer.init_args.lr"] == "0.003"
    assert loggers_of(folder) == ["WandbLogger", "WandbLogger", "MetricsCSV"]
    for split in ("val", "test"):
        picture = media[f"{split}/examples"]
        assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 512, 576)
        assert sum((path / "files" / picture["path"]).is_file() for path in offline) == 1


def wandb_records(file: Path) -> list[Any]:
    """Read a W&B offline file: LevelDB's log format behind a header of 7 bytes, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    content, at, parts, records = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # too little for the header of a record: the next one begins the next block
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


@pytest.mark.parametrize("reason", ["no key", "no network"])
def test_wandb_says_in_one_line_that_it_is_offline(bake_project, reason):
    project = bake_project({"logger": "wandb"})
    # a port on this machine where nothing listens
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"} if reason == "no network" else {}
    before = f"""
from {PACKAGE}.runtime import loggers
import time
start = time.monotonic(); loggers._why_offline(); took = time.monotonic() - start
assert took < 5, took
"""
    [(code, output)] = run(project, ["fit", "--run=a", *SMALL], before=before, environment=key)

    assert code == 0, output
    said = [line for line in output.splitlines() if "offline" in line]
    assert len(said) == 1
    why = "127.0.0.1 can't be reached" if key else "no API key; wandb login sets one"
    path = os.path.join("runs", "a", "wandb")
    assert said[0] == f"W&B is offline ({why}). To upload the run later: wandb sync {path}/offline-run-*"


def test_a_missing_logger_is_named_with_the_command_that_installs_it(bake_project):
    project = bake_project({"logger": "csv"})
    before = f"from {PACKAGE}.runtime import errors as e; e.find_spec = lambda name: None if name == 'mlflow' else 1"

    [(code, output)] = run(project, ["fit", "--logger=mlflow", *SMALL], before=before)

    assert code == 1
    assert "mlflow is not installed. Install with: pip install -e '.[mlflow]'" in output
    assert not list((project / "runs").glob("*"))


@pytest.mark.parametrize("logger", ["wandb", pytest.param("tensorboard", marks=pytest.mark.slow), "mlflow"])
def test_the_real_command_trains_with_the_chosen_logger(bake_project, logger):
    project = bake_project({"logger": logger, "accelerator": "cpu"})
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "fit", *SMALL],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"test/accuracy \d", done.stdout)
    # W&B has one line to say, the others none
    assert [line for line in done.stderr.splitlines() if "warn" in line.lower()] == []
    assert ("W&B is offline" in done.stdout) == (logger == "wandb")
