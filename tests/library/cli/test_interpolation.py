from pathlib import Path

import pytest
from written import assert_same, config

FILE = """
data:
  batch_size: ${oc.env:SIZE}
model:
  lr: ${data.batch_size}
logger: {class_path: CSVLogger, init_args: {prefix: "${oc.env:SECRET}"}}
"""


@pytest.fixture
def file(monkeypatch) -> str:
    for name, value in {"SIZE": "16", "SECRET": "hushhush"}.items():
        monkeypatch.setenv(name, value)
    Path("file.yaml").write_text(FILE)
    return "file.yaml"


def test_values_are_filled_in_and_no_secret_is_written(file, run) -> None:
    assert run("fit", "--run", "a", "-c", file, "--trainer.max_epochs=1") == 0
    written = [path for path in Path("runs/a").rglob("*") if path.is_file()]
    assert [path for path in written if b"hushhush" in path.read_bytes()] == []
    written = config("a")
    assert (written["data"]["batch_size"], written["model"]["lr"]) == ("${oc.env:SIZE}", "${data.batch_size}")
    assert written["logger"]["init_args"]["prefix"] == "${oc.env:SECRET}"
    assert run("fit", "--run", "b", "--data.batch_size=16", "--model.lr=16", "--trainer.max_epochs=1") == 0
    assert_same("a", "b")


def test_such_a_run_is_resumed_tested_and_repeated(file, interrupt, run) -> None:
    interrupt("a", "-c", file, "--model.lr=0.01", "--data.batch_size=8")
    assert run("fit", "--resume", "a") == 0
    assert run("test", "--run", "a") == 0
    assert run("fit", "--run", "b", "-c", "runs/a/config.yaml") == 0
    assert_same("a", "b")
    assert config("b") == config("a")
    assert (config("a")["data"]["batch_size"], config("a")["model"]["lr"]) == (8, 0.01)
