"""Help, printed texts and warnings, and a terminal that can't show them all."""

import os
import re
import warnings

import lightning_runs
import messages
import pytest
from lightning_runs import commands
from lightning_runs.cli.chatter import quiet


@pytest.mark.parametrize("args", messages.HELP)
def test_a_help_is_as_it_was_reviewed(args, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, text = messages.printed(messages.HELP[args])
    assert code == 0
    assert messages.entry(args, args, code, text) == messages.entries()[args], "run: make messages"


def test_help_names_every_command_on_one_screen(run, capsys) -> None:
    assert run("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [name for name in commands.COMMANDS if not any(line.startswith(f"  {name} ") for line in lines)] == []
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_command_has_a_help_of_its_own(name, run, capsys) -> None:
    try:
        code = run(name, "--help")
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: python -m toy_project {name} [")
    assert len(lines) <= 130
    shown = {line.split()[0] for line in lines if line.startswith("  --")}
    assert ("--early_stopping.patience" in shown) == (name == "fit")
    assert "--trainer.barebones" not in shown


def test_help_all_shows_the_rest_and_a_class_has_its_own(run, capsys) -> None:
    for args in (["--help", "all"], ["--trainer.callbacks.help=pytorch_lightning.callbacks.Timer"]):
        with pytest.raises(SystemExit, match="0"):
            run("fit", *args)
    output = capsys.readouterr().out
    assert "--trainer.barebones" in output
    assert "--trainer.callbacks.duration" in output


def test_a_warning_is_a_sentence_and_what_was_set_is_restored(capsys) -> None:
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


def test_a_page_is_printed_with_the_package_s_name(run, capsys) -> None:
    assert run("docs", "index") == 0
    assert re.match(r"# \w[^#]*python -m toy_project docs", capsys.readouterr().out)


def test_the_public_names_exist() -> None:
    assert set(lightning_runs.MODULES) == set(lightning_runs.__all__)
    assert [name for name in lightning_runs.__all__ if not hasattr(lightning_runs, name)] == []
    with pytest.raises(AttributeError, match="lost"):
        lightning_runs.lost  # noqa: B018
