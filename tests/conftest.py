"""What all tests share: baked projects, and a stranger's environment."""

import os
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import settings
from project import bake, bake_start, person, repository

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run side by side
sys.dont_write_bytecode = True  # the template's folder is copied into each bake

# A shared machine may stall for longer than Hypothesis allows one example.
settings.register_profile("lightning-template", deadline=None, database=None)
settings.load_profile("lightning-template")


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the project of a start, baked once, to be read alone."""
    return cache(lambda start: bake_start(start, tmp_path_factory.mktemp(start)))


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
