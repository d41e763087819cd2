from pathlib import Path

import pytest
import yaml
from lightning_runs import errors
from written import assert_same

FILE = """
data:
  batch_size: ${oc.env:SIZE}
model:
  lr: ${data.batch_size}
logger: {class_path: CSVLogger, init_args: {prefix: "${oc.env:SECRET}"}}
trainer:
  callbacks:
  - class_path: pytorch_lightning.callbacks.ModelCheckpoint
    init_args:
      monitor: ${oc.env:METRIC}
"""


@pytest.fixture
def file(monkeypatch) -> str:
    pytest.importorskip("omegaconf")
    for name, value in {"SIZE": "16", "SECRET": "hushhush", "METRIC": "val/loss"}.items():
        monkeypatch.setenv(name, value)
    Path("file.yaml").write_text(FILE)
    return "file.yaml"


def options(name: str) -> dict:
    return yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text())


def test_values_are_filled_in_and_no_secret_is_written(file, run) -> None:
    assert run("fit", "--run", "a", "-c", file, "--trainer.max_epochs=1") == 0
    written = [path for path in Path("runs/a").rglob("*") if path.is_file()]
    assert [path for path in written if b"hushhush" in path.read_bytes()] == []
    there = options("a")
    assert there["data"]["batch_size"] == "${oc.env:SIZE}"
    assert there["model"]["lr"] == "${data.batch_size}"
    assert there["logger"]["init_args"]["prefix"] == "${oc.env:SECRET}"
    assert there["trainer"]["callbacks"][0]["init_args"]["monitor"] == "${oc.env:METRIC}"
    assert run("fit", "--run", "b", "--data.batch_size=16", "--model.lr=16", "--trainer.max_epochs=1") == 0
    assert_same("a", "b")


def test_such_a_run_is_resumed_tested_and_repeated(file, interrupt, run) -> None:
    interrupt("a", "-c", file, "--model.lr=0.01", "--data.batch_size=8")
    assert run("fit", "--resume", "a") == 0
    assert run("test", "--run", "a") == 0
    assert run("fit", "--run", "b", "-c", "runs/a/config.yaml") == 0
    assert_same("a", "b")
    assert options("b") == options("a")
    assert (options("a")["data"]["batch_size"], options("a")["model"]["lr"]) == (8, 0.01)
    assert options("a")["logger"]["init_args"]["prefix"] == "${oc.env:SECRET}"


def test_references_of_the_default_stay_out_of_other_runs(file, run, have) -> None:
    have("finished", "before")
    default = Path("configs/default.yaml")
    default.write_text(f"{default.read_text()}data:\n  batch_size: ${{oc.env:SIZE}}\n")
    assert run("fit", "--run", "a", "--trainer.max_epochs=1") == 0
    assert options("a")["data"]["batch_size"] == "${oc.env:SIZE}"
    assert run("fit", "--resume", "before", "--trainer.max_epochs=4") == 0
    assert options("before")["data"]["batch_size"] == 8


def test_without_omegaconf_the_extra_is_named(file, run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda package: None)
    assert run("fit", "-c", file) == 1
    assert "pip install -e '.[interpolate]'" in capsys.readouterr().err
