"""What the command line does when it can't do what it is asked to, and that nothing is lost."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import messages
import pytest
import torch


def files(folder: str) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.mark.parametrize("title", messages.MISTAKES)
def test_a_mistake_is_named_in_a_line_and_changes_nothing(title, have, own_folder) -> None:
    messages.prepare(own_folder)
    for run in ("finished", "interrupted"):
        have(run, run)
    before = files(".")
    mistake = messages.MISTAKES[title]
    code, text = messages.printed(mistake)
    assert code == mistake.code
    assert [word for word in mistake.named.split() if word not in text] == []
    assert "Traceback" not in text
    assert not text.startswith("executed")
    assert "usage" in text or len(text[text.rfind("error:") :].splitlines()) <= 5
    assert files(".") == before
    assert messages.entry(title, mistake.args, code, text) == messages.entries()[title], "run: make messages"


def test_the_file_of_messages_has_no_others() -> None:
    assert list(messages.entries()) == [*messages.HELP, *messages.MISTAKES], "run: make messages"


def test_a_folder_without_a_configuration_is_named(run, capsys) -> None:
    Path("configs/default.yaml").unlink()
    assert run("fit") == 1
    assert "configs/default.yaml" in capsys.readouterr().err


# Starts a command where torch can't be imported.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from lightning_runs import Project
for args in (["runs"], ["docs"], ["docs", "none"], ["--help"], ["--version"], ["predict", "--onnx", "a.onnx", "b.png"]):
    print(Project("toy_project").main(args))
"""


def test_short_answers_import_no_torch(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    codes = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert codes == ["0", "0", "2", "0", "0", "1"], done.stderr


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a disk that is almost full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("args", "file"),
    [("predict --run a", "predictions.csv"), ("report a", "report.html"), ("test --run a", "test.json")],
)
def test_a_full_disk_is_named_and_keeps_the_file_that_was_there(args, file, run, have, capsys) -> None:
    have("finished", "a")
    assert run(*args.split()) == 0
    before = files("runs")
    with little_room(30):
        assert run(*args.split()) == 1
    assert file in capsys.readouterr().err
    assert files("runs") == before


@pytest.mark.parametrize(("key", "value"), [("loops", {}), ("callbacks", [])])
def test_a_checkpoint_without_training_state_is_not_resumed(key, value, run, have, capsys) -> None:
    have("interrupted", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        torch.save(torch.load(file, weights_only=True) | {key: value}, file)
    assert run("fit", "--resume", "a") == 1
    assert ".ckpt" in capsys.readouterr().err
