"""What all tests share: baked projects, and the counts that are printed at the end."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from project import ROOT, TEMPLATE, bake_start
from project import bake as bake_in

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two tests run side by side
sys.dont_write_bytecode = True  # the template's folder is copied into each bake

# A shared machine may stall for longer than Hypothesis allows one example.
settings.register_profile("lightning-template", deadline=None, database=None)
settings.load_profile("lightning-template")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests that passed have counted: combinations rendered and trained, kills, commands typed."""
    counts: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, count in report.user_properties:
            counts[name] = counts.get(name, 0) + count
    if counts:
        terminalreporter.section("counted")
        for name, count in sorted(counts.items()):
            terminalreporter.line(f"{count:7,} {name}")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that has a folder filled once in a session, however many processes test: do not change it."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        filled = root / "once" / name
        filled.parent.mkdir(exist_ok=True)
        with FileLock(f"{filled}.lock"):
            if not filled.exists():
                begun = filled.with_name(f"{name}.begun")
                shutil.rmtree(begun, ignore_errors=True)  # of a test that failed
                begun.mkdir()
                fill(begun)
                begun.rename(filled)
        return filled

    return folder


@pytest.fixture(scope="session")
def baked(once: Callable[..., Path]) -> Callable[[str], Path]:
    """Return a function that gives the project of a start, baked once: copy it before changing it."""

    def project(start: str) -> Path:
        return once(start, partial(bake_start, start)) / f"{start}-project"

    return project


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small template, quick to bake: prompts, hooks, licences, and a README of every text."""
    folder = tmp_path_factory.mktemp("template") / "lightning-template"
    project = folder / "{{cookiecutter.project_slug}}"
    shutil.copytree(ROOT / "hooks", folder / "hooks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TEMPLATE / ".licenses", project / ".licenses")
    shutil.copy(ROOT / "cookiecutter.json", folder)
    texts = "{{ cookiecutter.project_name }}\n{{ cookiecutter.description }}\n{{ cookiecutter.author_name }}\n"
    (project / "README.md").write_text(texts, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cookiecutter_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a settings file that keeps cookiecutter's own files out of the home folder."""
    folder = tmp_path_factory.mktemp("settings")
    file = folder / "config.yaml"
    file.write_text(f"cookiecutters_dir: {folder}/cookiecutters\nreplay_dir: {folder}/replay\n")
    return file


@pytest.fixture
def bake(template: Path, cookiecutter_settings: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bakes the small template of `template` under ``tmp_path / "out"``."""
    return partial(bake_in, tmp_path / "out", template=template, config_file=str(cookiecutter_settings))


@pytest.fixture
def bake_project(cookiecutter_settings: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bakes a whole project under ``tmp_path / "out"``."""
    return partial(bake_in, tmp_path / "out", config_file=str(cookiecutter_settings))
