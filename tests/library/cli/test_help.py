"""Help, and what a reader of it may do."""

import os
import warnings

import lightning_runs
import messages
import pytest
from lightning_runs.cli.chatter import quiet


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


def test_a_warning_is_a_sentence_and_what_was_set_is_restored() -> None:
    formatwarning = warnings.formatwarning
    with quiet():
        assert warnings.formatwarning("a file is left out.", UserWarning, "f", 1) == "warning: a file is left out.\n"
    assert warnings.formatwarning is formatwarning


def test_a_closed_pipe_ends_a_command_without_a_traceback(run, monkeypatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert run("--help") == 141


def test_the_public_names_exist() -> None:
    assert set(lightning_runs.MODULES) == set(lightning_runs.__all__)
    assert [name for name in lightning_runs.__all__ if not hasattr(lightning_runs, name)] == []
    with pytest.raises(AttributeError, match="lost"):
        lightning_runs.lost  # noqa: B018
