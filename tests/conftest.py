"""What all tests share: baked projects, and a stranger's environment."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from project import bake, bake_start, person, repository

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run side by side
sys.dont_write_bytecode = True  # the template's folder is copied into each bake

# A shared machine may stall for longer than Hypothesis allows one example.
settings.register_profile("lightning-template", deadline=None, database=None)
settings.load_profile("lightning-template")


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the project of a start, baked once, however many processes test: copy it first."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def project(start: str) -> Path:
        folder = root / "baked" / start
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                shutil.rmtree(f"{folder}.begun", ignore_errors=True)  # of a test that failed
                bake_start(start, Path(f"{folder}.begun"))
                os.rename(f"{folder}.begun", folder)
        return folder / f"{start}-project"

    return project


@pytest.fixture
def bake_project(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bakes a project under ``tmp_path / "out"``."""
    return partial(bake, tmp_path / "out")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of someone new to cookiecutter."""
    return person(tmp_path / "home")


@pytest.fixture
def origin(tmp_path: Path, environment: dict[str, str]) -> Path:
    """Return a git repository of the template, which is on GitHub for this test's git."""
    return repository(tmp_path / "home" / "github" / "org" / "lightning-template.git", environment)
