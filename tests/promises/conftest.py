"""A trained project, made once, of which each test has a copy."""

import shutil
from pathlib import Path

import pytest
from project import SMALL
from trainings import SECOND_EPOCH, bake, killed, prepared


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a finished run, a, whose output is in fit.txt, and one that was killed in its second epoch.

    Not to be changed.
    """
    project = bake(tmp_path_factory.mktemp("trained"))
    (project / "fit.txt").write_text(prepared(project, ["fit", "--run=a", *SMALL]), encoding="utf-8")
    killed(project, ["fit", "--run=killed", *SMALL, "--save_every_n_steps=1"], SECOND_EPOCH)
    return project


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """Return a copy of the project with two runs, a and killed."""
    return Path(shutil.copytree(trained_once, tmp_path / "project"))
