"""Runs that were made to look for a mistake are not taken for the trained model."""

import pytest

WRITES = {"validate": "validate.json", "test": "test.json", "predict": "predictions.csv", "report": "report.html"}


@pytest.fixture
def debugged(run, have, own_folder):
    """The folder of the runs: a finished one, and a newer one that is marked."""
    have("finished", "a")
    assert run("fit", "--run", "looked", "--debug", "quick") == 0
    for file in WRITES.values():
        for name in ("a", "looked"):
            (own_folder / "runs" / name / file).unlink(missing_ok=True)
    return own_folder / "runs"


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_no_command_takes_a_debugging_run_by_itself(command, debugged, run) -> None:
    assert run(command) == 0
    assert [name for name in ("a", "looked") if (debugged / name / WRITES[command]).is_file()] == ["a"]


def test_a_debugging_run_is_taken_by_its_name(debugged, run) -> None:
    assert run("test", "--run", "looked") == 0
    assert (debugged / "looked" / "test.json").is_file()


def test_where_there_is_no_other_run_it_is_named(run, capsys) -> None:
    assert run("fit", "--run", "learnt", "--debug", "overfit") == 0
    assert run("test") == 1
    assert "learnt" in capsys.readouterr().err


def test_the_table_of_runs_shows_the_mark(debugged, run, capsys) -> None:
    capsys.readouterr()
    assert run("runs") == 0
    assert "quick" in capsys.readouterr().out
