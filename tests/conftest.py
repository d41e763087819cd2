"""Fixtures that bake projects: the template, and cookiecutter without prompts or a user's own settings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.main import cookiecutter
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# A shared machine may stall for longer than Hypothesis allows one example.
settings.register_profile("lightning-template", deadline=None, database=None)
settings.load_profile("lightning-template")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests that passed have counted: combinations rendered and trained, kills, lines of Python."""
    counts: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, count in report.user_properties:
            counts[name] = counts.get(name, 0) + count
    if counts:
        terminalreporter.section("counted")
        for name, count in sorted(counts.items()):
            terminalreporter.line(f"{count:7,} {name}")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small template, quick to bake: prompts, hooks, licences, and a README of every text."""
    folder = tmp_path_factory.mktemp("template") / "lightning-template"
    project = folder / "{{cookiecutter.project_slug}}"
    shutil.copytree(ROOT / "hooks", folder / "hooks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / project.name / ".licenses", project / ".licenses")
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


def _baker(template: Path, settings_file: Path, output: Path) -> Callable[..., Path]:
    """Return a function that bakes a project and returns its folder.

    It takes answers word for word, as if typed at a prompt; cookiecutter alone would render them as Jinja.
    Further arguments go to ``cookiecutter.main.cookiecutter``.
    """
    prompts = json.loads((template / "cookiecutter.json").read_text(encoding="utf-8"))

    def bake(answers: dict[str, str] | None = None, **options: Any) -> Path:
        literal = {
            name: text if isinstance(prompts[name], list) else "{% raw %}" + text + "{% endraw %}"
            for name, text in (answers or {}).items()
        }
        options = {"output_dir": output, "config_file": str(settings_file), **options}
        return Path(cookiecutter(str(template), no_input=True, extra_context=literal, **options))

    return bake


@pytest.fixture
def bake(template: Path, cookiecutter_settings: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bakes the small template of `template` under ``tmp_path / "out"``."""
    return _baker(template, cookiecutter_settings, tmp_path / "out")


@pytest.fixture
def bake_project(cookiecutter_settings: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bakes a whole project under ``tmp_path / "out"``."""
    return _baker(ROOT, cookiecutter_settings, tmp_path / "out")
