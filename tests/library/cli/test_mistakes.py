"""Help, and what the command line does when it can't do what it is asked to: nothing is lost."""

import os
import subprocess
from pathlib import Path

import messages
import pytest
import torch
from starts import LIBRARY_ALONE, WITHOUT_TORCH
from toy import assert_fails


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


def test_a_folder_without_a_configuration_is_named() -> None:
    Path("configs/default.yaml").unlink()
    assert_fails("configs/default.yaml", "fit")


@pytest.mark.parametrize("args", ["runs", "docs", "--help", "--version", "predict --onnx a.onnx b.png"])
def test_short_answers_import_no_torch(args) -> None:
    done = subprocess.run([*WITHOUT_TORCH, *args.split()], env=LIBRARY_ALONE)
    assert done.returncode == ("onnx" in args)


@pytest.mark.parametrize(("key", "value"), [("loops", {}), ("callbacks", [])])
def test_a_checkpoint_without_training_state_is_not_resumed(key, value, have) -> None:
    have("interrupted", "a")
    for file in Path("runs/a/checkpoints").glob("*.ckpt"):
        torch.save(torch.load(file, weights_only=True) | {key: value}, file)
    assert_fails(".ckpt", "fit", "--resume", "a")


@pytest.mark.parametrize("args", messages.HELP)
def test_a_help_is_as_it_was_reviewed(args, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text = messages.printed(messages.HELP[args])
    assert code == 0
    assert messages.entry(args, args, code, text) == messages.entries()[args], "run: make messages"


@pytest.mark.parametrize(
    ("args", "option"),
    [("--help all", "--trainer.barebones"), ("--trainer.callbacks.help=Timer", "--trainer.callbacks.duration")],
)
def test_help_all_shows_the_rest_and_a_class_has_its_own(args, option, run, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("fit", *args.split())
    assert option in capsys.readouterr().out


def test_a_closed_pipe_ends_a_command_without_a_traceback(run, monkeypatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert run("--help") == 141
