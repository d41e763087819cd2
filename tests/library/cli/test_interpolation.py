from pathlib import Path

import pytest
import yaml
from lightning_runs import errors
from lightning_runs.cli.interpolation import with_references
from written import assert_same

FILE = """
data:
  batch_size: ${oc.env:SIZE}
model:
  lr: ${data.batch_size}
logger_options:
  entity: ${oc.env:SECRET}
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
    assert there["logger_options"]["entity"] == "${oc.env:SECRET}"
    assert there["trainer"]["callbacks"][0]["init_args"]["monitor"] == "${oc.env:METRIC}"
    assert run("fit", "--run", "b", "--data.batch_size=16", "--model.lr=16", "--trainer.max_epochs=1") == 0
    assert_same("a", "b")


def test_an_overwritten_reference_is_written_as_a_value(file, run) -> None:
    Path("more.yaml").write_text("data:\n  batch_size: 8\ntrainer:\n  callbacks: []\n")
    assert run("fit", "--run", "a", "-c", file, "-c", "more.yaml", "--model.lr=0.01", "--trainer.max_epochs=1") == 0
    there = options("a")
    assert (there["data"]["batch_size"], there["model"]["lr"], there["trainer"]["callbacks"]) == (8, 0.01, [])
    assert there["logger_options"]["entity"] == "${oc.env:SECRET}"


def test_such_a_run_is_resumed_tested_and_repeated(file, interrupt, run) -> None:
    interrupt("a", "-c", file, "--model.lr=0.01", "--data.batch_size=8")
    assert run("fit", "--resume", "a") == 0
    assert run("test", "--run", "a") == 0
    assert run("fit", "--run", "b", "-c", "runs/a/config.yaml") == 0
    assert_same("a", "b")
    assert options("b") == options("a")


def test_the_default_configuration_may_have_references(file, run) -> None:
    default = Path("configs/default.yaml")
    default.write_text(default.read_text() + "data:\n  batch_size: ${oc.env:SIZE}\n")
    assert run("fit", "--run", "a") == 0
    assert options("a")["data"]["batch_size"] == "${oc.env:SIZE}"


def test_a_variable_that_is_not_set_is_told(file, run, capsys, monkeypatch) -> None:
    monkeypatch.delenv("SECRET")
    with pytest.raises(SystemExit, match="2"):
        run("fit", "-c", file)
    error = capsys.readouterr().err
    assert "SECRET" in error
    assert len(error.splitlines()) == 2


def test_a_value_that_does_not_fit_is_refused_as_any_other(file, run, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SIZE", "many")
    with pytest.raises(SystemExit, match="2"):
        run("fit", "-c", file)
    assert "many" in capsys.readouterr().err


def test_without_omegaconf_the_extra_is_named(run, capsys, monkeypatch) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda package: None)
    Path("file.yaml").write_text(FILE)
    with pytest.raises(SystemExit, match="2"):
        run("fit", "-c", "file.yaml")
    error = capsys.readouterr().err
    assert [
        word for word in ("file.yaml", "${", "omegaconf", "pip install -e '.[interpolate]'") if word not in error
    ] == []


def test_references_are_restored_with_absolute_names() -> None:
    options = {"a": [{"b": "x"}, {"b": 1}], "c": 2, "d": {"e": 3}}
    unresolved = {"a": [{"b": "x"}, {"b": "${...c}"}], "c": "${oc.env:D}", "d": {"e": "${.f}-${..c}"}}
    restored = {"a": [{"b": "x"}, {"b": "${c}"}], "c": "${oc.env:D}", "d": {"e": "${d.f}-${c}"}}
    assert with_references(options, unresolved) == restored
    assert with_references({"a": 1}, None) == {"a": 1}


def test_a_run_without_references_keeps_none_of_an_earlier_file(file, run, have) -> None:
    have("finished", "a")
    configuration = Path("configs/default.yaml")
    configuration.write_text(f"{configuration.read_text()}data:\n  batch_size: ${{oc.env:SIZE}}\n")
    assert run("fit", "--resume", "a", "--trainer.max_epochs=4") == 0
    assert options("a")["data"]["batch_size"] == 8
