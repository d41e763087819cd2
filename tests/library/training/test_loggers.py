"""What each logger holds of a run that was interrupted and resumed, read back by its own reader."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed import kill
from lightning_runs.training import loggers
from PIL import Image
from toy import Toy
from written import record, rows

PICTURES = "--trainer.callbacks+=lightning_runs.training.callbacks.Pictures"
METRICS = ("train/loss", "val/loss", "test/loss")
Values = dict[str, dict[int, Any]]  # by metric and optimizer step


class Drawing(Toy):
    loggers_of_test: tuple[str, ...] = ()

    def show(self, outputs: list[Any], batch: Any, data: Any) -> dict[str, Any]:
        return {"examples": Image.new("RGB", (51, 57))}

    def on_test_end(self) -> None:
        Drawing.loggers_of_test = tuple(type(logger).__name__ for logger in (self.logger, *self.loggers))


@pytest.fixture
def train(run, interrupt, monkeypatch) -> Any:
    """Return a function that trains a run in two parts with a logger, and returns its folder."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def train(logger: str) -> Path:
        interrupt("a", f"--logger={logger}", PICTURES, module=Drawing)
        assert run("fit", "--resume", module=Drawing) == 0
        return Path("runs/a").absolute()

    return train


CLASS = "{class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {save_dir: logs, prefix: p}}"
TWO_STEPS = "--trainer.logger=TensorBoardLogger --trainer.logger.save_dir=logs --trainer.logger.prefix p"


@pytest.mark.slow  # TensorBoard is not installed for the quick tests
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (TWO_STEPS, "{}"),
        ("--logger.prefix p", "logger: tensorboard"),
        ("", f"logger: [{CLASS}]"),
        ("", f"trainer:\n  logger: {CLASS}"),
    ],
)
def test_every_form_of_a_logger_writes_into_the_run(options, text, run, interrupt, own_folder) -> None:
    Path("more.yaml").write_text(text, encoding="utf-8")
    interrupt("a", "-c", "more.yaml", *options.split())
    assert run("fit", "--resume") == 0
    assert {file.parent for file in own_folder.rglob("events.out.*")} == {own_folder / "runs/a/tensorboard"}
    assert "init_args:\n    prefix: p\n" in Path("runs/a/config.yaml").read_text(encoding="utf-8")
    assert len(rows("a")) > 5


@pytest.mark.parametrize(
    "options", ["=wandbb", "=nowhere.Logger", "=pathlib.Path", "=wandb --logger.tagz=[p]", ".tags=p"]
)
def test_a_mistake_in_a_logger_is_named_in_a_line(options, run, capsys) -> None:
    with pytest.raises(SystemExit):
        run("fit", *f"--logger{options}".split())
    lines = capsys.readouterr().err.splitlines()
    assert ("tagz. Did you mean --tags" if "tagz" in options else "--logger") in lines[0]
    assert len(lines) == 2


def assert_equals_metrics_csv(logged: Values) -> None:
    expected: Values = {}
    for row in rows("a"):
        for metric in METRICS:
            if row[metric]:
                expected.setdefault(metric, {})[int(row["step"])] = pytest.approx(float(row[metric]), rel=1e-5)
    assert {metric: logged[metric] for metric in METRICS} == expected


@pytest.mark.parametrize(("logger", "classes"), [("csv", {"MetricsCSV"}), ("none", {"NoneType"})])
def test_without_a_service_there_are_rows_and_pictures(logger, classes, train) -> None:
    folder = train(logger)
    assert {path.name for path in (folder / "images").iterdir()} == {"test_examples.png", "val_epoch_000_examples.png"}
    assert set(Drawing.loggers_of_test) == classes
    assert (folder / "metrics.csv").exists() == (logger == "csv")


@pytest.mark.parametrize(
    ("mode", "key", "reason"),
    [("", "", "no API key"), ("", "0" * 40, "127.0.0.1 can't be reached"), ("offline", "", "WANDB_MODE is offline")],
)
def test_wandb_stays_offline_for_a_reason(mode, key, reason, monkeypatch) -> None:
    settings = {"WANDB_MODE": mode, "WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": "none"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert str(loggers._reason_to_stay_offline()).startswith(reason)


@pytest.mark.slow
def test_tensorboard_holds_one_run(train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train("tensorboard")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"val/examples", "test/examples"} <= set(events.Tags()["images"])
    assert Drawing.loggers_of_test == ("TensorBoardLogger", "TensorBoardLogger", "MetricsCSV")
    assert b"model.lr" in events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert_equals_metrics_csv({m: {event.step: event.value for event in events.Scalars(m)} for m in METRICS})
    assert {file.parent for file in folder.parent.rglob("events.out.*")} == {folder / "tensorboard"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "a%20b", "a?b", "a#b %"])
def test_mlflow_holds_one_run_in_any_folder(name, train, own_folder, monkeypatch) -> None:
    from mlflow.tracking import MlflowClient

    shutil.copytree("configs", own_folder / name / "configs")
    monkeypatch.chdir(own_folder / name)
    folder = train("mlflow")
    shutil.copy(folder.parent / "mlflow.db", own_folder / "copy.db")
    client = MlflowClient(f"sqlite:///{own_folder}/copy.db")
    (found,) = client.search_runs([client.get_experiment_by_name("toy_project").experiment_id])  # pyright: ignore
    assert (found.info.run_name, found.info.status) == ("a", "FINISHED")
    histories = {metric: client.get_metric_history(found.info.run_id, metric) for metric in METRICS}
    assert_equals_metrics_csv({m: {point.step: point.value for point in points} for m, points in histories.items()})
    assert found.data.params["model.lr"] == "0.02"
    assert len(list((folder.parent / "mlflow").rglob("examples_*.png"))) == 2


@pytest.mark.slow
def test_wandb_offline_files_hold_every_row_after_a_kill(run, monkeypatch, capsys) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    kill("fit", "--run=a", "--logger=wandb", "--save_every_n_steps=4", calls=11)
    assert run("fit", "--resume", PICTURES, "--accept_changes=true", module=Drawing) == 0
    assert "W&B is offline (no API key" in capsys.readouterr().out
    logged = list(wandb_rows(Path("runs/a")))
    assert_equals_metrics_csv({m: {row["trainer/global_step"]: row[m] for row in logged if m in row} for m in METRICS})
    assert {row["trainer/global_step"] for row in logged if "repeated" in row} == set(range(8))
    assert any("test/examples" in name for row in logged for name in row)
    identity = record("a")["logged_as"]["0"]
    assert {path.name.rsplit("-", 1)[1] for path in Path("runs/a/wandb").glob("offline-run-*")} == {identity}


def wandb_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Read a run's W&B offline files: LevelDB's log format behind a header of 7 bytes, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
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
                items = Record.FromString(parts).history.item
                yield {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
                parts = b""
