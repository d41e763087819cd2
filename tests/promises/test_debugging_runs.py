"""Runs that were made to look for a mistake are not taken for the trained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import SMALL
from trainings import is_one_sentence, prepared, told
from warm import run

ONE_EPOCH = ("--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.limit_test_batches=2")
WRITES = {"validate": "validate.json", "test": "test.json", "predict": "predictions.csv"}


@pytest.fixture(scope="module")
def debugged_once(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a run, a, and two newer ones: looked, of the overlay quick, and learnt, of overfit."""
    project = Path(shutil.copytree(trained_once, tmp_path_factory.mktemp("debugged") / "project"))
    prepared(
        project,
        ["fit", "-c", "configs/quick.yaml", "--run=looked", *SMALL, *ONE_EPOCH],
        ["fit", "-c", "configs/overfit.yaml", "--run=learnt", *ONE_EPOCH],
    )
    return project


@pytest.fixture
def debugged(debugged_once: Path, tmp_path: Path) -> Path:
    """Return a copy of the project, without the results of its runs."""
    project = Path(shutil.copytree(debugged_once, tmp_path / "debugged"))
    for file in (project / "runs").glob("*/test.json"):
        file.unlink()
    return project


def test_no_command_takes_a_run_of_an_overlay_for_debugging_by_itself(debugged):
    """``fit``, ``fit -c configs/quick.yaml``, ``fit -c configs/overfit.yaml``; then ``validate`` and others."""
    results = run(debugged, *([command] for command in WRITES))

    assert [code for code, _ in results] == [0] * len(WRITES), results
    taken = {
        command: [folder.name for folder in (debugged / "runs").iterdir() if (folder / file).is_file()]
        for command, file in WRITES.items()
    }
    assert taken == {command: ["a"] for command in WRITES}


def test_export_takes_no_run_of_an_overlay_for_debugging_by_itself(debugged):
    """``fit``, ``fit -c configs/quick.yaml``, ``fit -c configs/overfit.yaml``; then ``export``, cut short."""
    before = "import torch.export; torch.export.export = None\n"

    [(_, output)] = run(debugged, ["export"], before=before)

    assert "looked" not in output
    assert "learnt" not in output


def test_a_run_of_an_overlay_for_debugging_is_marked_and_has_to_be_named(debugged):
    """``fit -c configs/overfit.yaml --run=learnt``; ``test`` and ``test --run=learnt``, where there is no other run."""
    for name in ("a", "looked", "killed"):
        shutil.rmtree(debugged / "runs" / name)

    (code, output), (named, _), (_, table) = run(debugged, ["test"], ["test", "--run=learnt"], ["runs"])

    assert named == 0
    assert code == 1, output
    assert is_one_sentence(output), output
    assert "overfit" in " ".join(told(output))
    assert "overfit" in table
