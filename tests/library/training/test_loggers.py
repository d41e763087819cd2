"""What each logger holds of a run that was interrupted and resumed, read back by its own reader."""

import csv
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from killed import kill
from lightning_runs.runs import Run, make_folder
from lightning_runs.runs.options import flat
from lightning_runs.training import loggers
from pytorch_lightning.callbacks import Callback
from toy import Toy
from training.test_callbacks import PICTURES
from written import record, rows

METRICS = ("train/loss", "val/loss", "test/loss")
Values = dict[str, dict[int, float]]  # by metric and optimizer step


class Measured(Callback):
    """Asks the Trainer for the numbers of the training, as a user's callback may."""

    values: ClassVar[Values] = {}
    classes: tuple[str, ...] = ()

    def record(self, trainer: Any, metric: str, step: int) -> None:
        self.values.setdefault(metric, {})[step] = trainer.callback_metrics[metric].item()

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.record(trainer, "train/loss", trainer.global_step - 1)

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self.record(trainer, "val/loss", trainer.global_step - 1)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self.record(trainer, "test/loss", trainer.global_step)
        Measured.classes = tuple(type(logger).__name__ for logger in (pl_module.logger, *pl_module.loggers))


class Drawing(Toy):
    """A module with a picture, which also uses the logger by its own methods, as Lightning's pages do."""

    own_line: Any = None

    def show(self, outputs: list[Any], batch: Any, data: Any) -> dict[str, Any]:
        from PIL import Image

        return {"examples": Image.new("RGB", (51, 57))}

    def on_train_start(self) -> None:
        if Drawing.own_line is not None:
            Drawing.own_line(self)


@pytest.fixture
def train(run, interrupt, monkeypatch) -> Any:
    """Return a function that trains a run in two parts with a logger, and returns its folder and its numbers."""

    def train(logger: str, own_line: Any = None) -> tuple[Path, Values]:
        monkeypatch.setattr(Measured, "values", {})
        monkeypatch.setattr(Drawing, "own_line", own_line)
        callbacks = (PICTURES, f"--trainer.callbacks+={__name__}.Measured")
        interrupt("a", f"--logger={logger}", *callbacks, module=Drawing)
        assert run("fit", "--resume", module=Drawing) == 0
        own = Measured.values
        assert [list(own["train/loss"]), len(own["val/loss"]), list(own["test/loss"])] == [list(range(18)), 3, [18]]
        return Path("runs/a").absolute(), own

    return train


def assert_equal(logged: Values, own: Values) -> None:
    assert {m: logged[m] for m in METRICS} == {m: pytest.approx(own[m], rel=1e-5) for m in METRICS}


def csv_values() -> Values:
    values: Values = {}
    for row in rows("a"):
        for metric in METRICS:
            if row[metric]:
                values.setdefault(metric, {})[int(row["step"])] = float(row[metric])
    return values


def options_of(folder: Path) -> dict[str, str]:
    """Return every option of a run as text, without lists, which loggers write in their own ways."""
    options = flat(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    plain = {name: value for name, value in options.items() if not isinstance(value, list | dict)}
    return {name: "null" if value is None else str(value) for name, value in plain.items()}


@pytest.mark.parametrize(("logger", "classes"), [("csv", "MetricsCSV"), ("none", "NoneType")])
def test_without_a_service_there_are_rows_and_files(logger, classes, train) -> None:
    folder, own = train(logger)
    assert {path.name for path in (folder / "images").iterdir()} == {"test_examples.png", "val_epoch_000_examples.png"}
    assert set(Measured.classes) == {classes}
    assert record("a", "test.json")["test/loss"] == pytest.approx(own["test/loss"][18])
    if logger == "csv":
        assert_equal(csv_values(), own)
    else:
        assert not (folder / "metrics.csv").exists()


def test_damaged_metrics_are_kept_under_another_name(run, have, capsys) -> None:
    have("interrupted", "a")
    Path("runs/a/metrics.csv").write_bytes(b"\xff")
    assert run("fit", "--resume") == 0
    assert Path("runs/a/metrics_damaged.csv").read_bytes() == b"\xff"
    assert "metrics_damaged.csv" in capsys.readouterr().out
    assert [row["epoch"] for row in rows("a") if row["val/loss"]] == ["1", "2"]


def test_rows_of_repeated_steps_and_cut_rows_are_dropped(tmp_path) -> None:
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,0\n2.0,1\n3.0,2\n4.", encoding="utf-8")
    logger = loggers.MetricsCSV(tmp_path, step=2)
    logger.log_metrics({"a": 5.0, "b": 6.0}, step=2)
    logger.finalize("success")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["a"] for row in csv.DictReader(file)] == ["1.0", "2.0", "5.0"]


def test_a_missing_logger_is_named_with_its_extra(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr("lightning_runs.errors.find_spec", lambda name: None)
    assert run("fit", "--logger=mlflow") == 1
    error = capsys.readouterr().err
    assert "mlflow is not installed" in error
    assert "[mlflow]" in error
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_mlflow_continues_its_run_in_a_database_beside_the_runs(tmp_path, monkeypatch) -> None:
    calls = []

    class Fake:
        def __init__(self, **options: Any) -> None:
            calls.append(options)
            self.run_id = options["run_id"] or "chosen by MLflow"

    monkeypatch.setattr(loggers, "MLFlowLogger", Fake)
    monkeypatch.setattr(loggers, "require", lambda *names: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    run = Run(make_folder(tmp_path, "a", ""))
    for _ in range(2):
        built = loggers.build("mlflow", loggers.LoggerOptions(project="p"), run, 0)
        run.update()
        run = Run(run.folder)
    assert [type(logger).__name__ for logger in built] == ["Fake", "MetricsCSV"]  # pyright: ignore
    assert [call["run_id"] for call in calls] == [None, "chosen by MLflow"]
    assert {call["tracking_uri"] for call in calls} == {f"sqlite+pysqlite:///{tmp_path / 'mlflow.db'}"}


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "no API key"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "127.0.0.1 can't be reached"),
        ({"WANDB_MODE": "offline"}, "WANDB_MODE is offline"),
        ({"WANDB_MODE": "online"}, None),
    ],
)
def test_wandb_stays_offline_for_a_reason(environment, reason, monkeypatch, tmp_path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = time.monotonic()
    found = loggers._reason_to_stay_offline()
    assert time.monotonic() - before < 5
    assert found is None if reason is None else found.startswith(reason)  # pyright: ignore


@pytest.mark.slow
def test_tensorboard_holds_one_run(train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder, own = train("tensorboard", lambda module: module.logger.experiment.add_text("own", "a text"))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"val/examples", "test/examples"} <= set(events.Tags()["images"])
    assert "own/text_summary" in events.Tags()["tensors"]
    assert Measured.classes == ("TensorBoardLogger", "TensorBoardLogger", "MetricsCSV")
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert options_of(folder).keys() <= set(values)
    assert values["model.lr"].number_value == 0.02
    assert values["fingerprint"].string_value == record("a")["fingerprint"]
    assert_equal({m: {event.step: event.value for event in events.Scalars(m)} for m in METRICS}, own)
    assert_equal(csv_values(), own)
    assert {file.parent for file in folder.parent.rglob("events.out.*")} == {folder / "tensorboard"}  # one run


def assert_mlflow_equals(uri: str, folder: Path, own: Values) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("lightning").experiment_id])  # pyright: ignore
    assert (found.info.run_name, found.info.status) == ("a", "FINISHED")
    identity = found.info.run_id
    assert_equal({m: {p.step: p.value for p in client.get_metric_history(identity, m)} for m in METRICS}, own)
    for split in ("val", "test"):
        assert any("examples" in file.path for file in client.list_artifacts(identity, split))
    assert "own.txt" in [file.path for file in client.list_artifacts(identity)]
    assert options_of(folder).items() <= found.data.params.items()
    assert found.data.params["fingerprint"] == record("a")["fingerprint"]
    assert Measured.classes == ("MLFlowLogger", "MLFlowLogger", "MetricsCSV")
    assert_equal(csv_values(), own)


@pytest.mark.slow
@pytest.mark.parametrize("server", [False, True], ids=["database", "server"])
def test_mlflow_holds_one_run(server, train, run, request, monkeypatch) -> None:
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    folder, own = train(
        "mlflow", lambda module: module.logger.experiment.log_text(module.logger.run_id, "own", "own.txt")
    )
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent / 'mlflow.db'}"
    assert_mlflow_equals(uri, folder, own)
    assert (folder.parent / "mlflow.db").exists() != server
    assert run("fit", "--resume=a", "--trainer.max_epochs=4", module=Drawing) == 0


@pytest.mark.slow
def test_a_server_that_goes_away_ends_the_run_with_a_message(run, monkeypatch, capsys) -> None:
    from mlflow import exceptions, tracking

    calls = []
    log_batch = tracking.MlflowClient.log_batch

    def log(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) >= 4:
            raise exceptions.MlflowException("API request failed with exception Connection refused")
        return log_batch(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tracking.MlflowClient, "log_batch", log)
        assert run("fit", "--run=a", "--logger=mlflow") == 1
    error = capsys.readouterr().err
    assert "MLflow can't be used: API request failed with exception Connection refused" in error
    assert record("a")["status"] == "failed"
    assert run("fit", "--resume") == 0
    assert record("a")["status"] == "finished"


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """Start ``mlflow server`` on this machine, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = [f"--backend-store-uri=sqlite:///{tmp_path}/server.db", f"--artifacts-destination={tmp_path}/artifacts"]
    command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--host=127.0.0.1", "--workers=1", *store]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 180
    try:
        while True:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < end, (tmp_path / "server.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


@pytest.mark.slow
def test_wandb_holds_one_run_offline(train, monkeypatch, capsys) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    import wandb

    folder, own = train("wandb", lambda module: module.logger.experiment.log({"own": wandb.Histogram([1.0, 2.0])}))
    parts = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2  # the run and its resumption …
    assert {path.name.rsplit("-", 1)[1] for path in parts} == {record("a")["logged_as"]["wandb"]}  # … which are one run
    logged: Values = {}
    media: dict[str, Any] = {}
    config: dict[str, str] = {}
    for found in [item for path in parts for item in wandb_records(next(path.glob("*.wandb")))]:
        config |= {item.key: item.value_json for item in (*found.run.config.update, *found.config.update)}
        row: dict[str, Any] = {}
        for item in found.history.item:
            *outer, key = item.nested_key or [item.key]
            reduce(lambda inner, name: inner.setdefault(name, {}), outer, row)[key] = json.loads(item.value_json)
        media |= {name: row[name] for name in row if name.endswith(("/examples", "own"))}
        for metric in row.keys() & set(METRICS):
            logged.setdefault(metric, {})[row["trainer/global_step"]] = row[metric]
    assert_equal(logged, own)
    assert_equal(csv_values(), own)
    assert options_of(folder).keys() <= config.keys()
    assert json.loads(config["fingerprint"]) == record("a")["fingerprint"]
    assert Measured.classes == ("WandbLogger", "WandbLogger", "MetricsCSV")
    assert media["own"]["_type"] == "histogram"
    for split in ("val", "test"):
        picture = media[f"{split}/examples"]
        assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 51, 57)
        assert sum((path / "files" / picture["path"]).is_file() for path in parts) == 1
    assert capsys.readouterr().out.count("W&B is offline (no API key") == 1


@pytest.mark.slow
@pytest.mark.parametrize("calls", [11, 16])
def test_wandb_offline_files_hold_every_row_after_a_kill(calls, run, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    kill("fit", "--run=a", "--logger=wandb", "--save_every_n_steps=4", calls=calls)
    assert run("fit", "--resume") == 0
    logged: Values = {}
    repeated = set()
    for file in sorted(Path("runs/a/wandb").glob("offline-run-*/*.wandb")):
        for found in wandb_records(file):
            row = {".".join(item.nested_key) or item.key: item.value_json for item in found.history.item}
            for metric in row.keys() & set(METRICS):
                step = int(row["trainer/global_step"])
                first = logged.setdefault(metric, {}).setdefault(step, json.loads(row[metric]))
                assert first == pytest.approx(json.loads(row[metric]), rel=1e-5)
                repeated |= {step} if "repeated" in row else set()
    assert_equal(logged, csv_values())
    assert repeated == set(range((calls - 1) // 4 * 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b %"])
def test_mlflow_has_its_database_in_any_folder(name, run, own_folder, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = own_folder / name
    shutil.copytree("configs", folder / "configs")
    monkeypatch.chdir(folder)
    assert run("fit", "--run=a", "--logger=mlflow") == 0
    assert (folder / "runs" / "mlflow.db").stat().st_size
    assert sorted(path.name for path in own_folder.iterdir()) == [name, "configs"]


def wandb_records(file: Path) -> Iterator[Any]:
    """Read a W&B offline file: LevelDB's log format behind a header of 7 bytes, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    content = file.read_bytes()
    at = 7
    parts = b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # too little for the header of a record: the next one begins the next block
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found = Record()
            found.ParseFromString(parts)
            yield found
            parts = b""
