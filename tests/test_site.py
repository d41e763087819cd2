"""The site is built without the internet, has every page once, and no link of it is dead."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import lightning_runs
import pytest
import yaml
from lightning_runs.commands import COMMANDS
from project import ROOT, shell


def pages_of(nav: list) -> list[str]:
    """Return the pages of a navigation, in their order."""
    values = [value for entry in nav for value in entry.values()]
    return [page for value in values for page in (pages_of(value) if isinstance(value, list) else [value])]


@pytest.fixture(scope="module")
def site() -> Path:
    shell([sys.executable, "docs/site.py"], ROOT, {"https_proxy": "http://127.0.0.1:9"})  # no network
    return ROOT / "build" / "site"


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(site):
    texts = {file: file.read_text(encoding="utf-8") for file in site.rglob("*.html") if file.name != "404.html"}
    ids = {file: {*re.findall(r'\sid="([^"]+)"', text)} for file, text in texts.items()}
    dead = []
    for file, text in texts.items():
        for address in re.findall(r'(?:href|src)="([^"]+)"', text):
            parts = urlsplit(address)
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            is_whole = target.exists() and (not parts.fragment or parts.fragment in ids.get(target, {parts.fragment}))
            if not parts.netloc and parts.scheme in ("", "file") and not is_whole:
                dead.append((file.relative_to(site).as_posix(), address))
    assert dead == []


@pytest.mark.slow
def test_the_site_has_search_the_api_and_every_page(site):
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = sorted(file.relative_to(ROOT / "build" / "pages").as_posix() for file in ROOT.glob("build/pages/**/*.md"))
    assert sorted(pages_of(nav)) == pages
    assert "ExactResume" in (site / "search.json").read_text(encoding="utf-8")
    assert "every_n_steps" in (site / "api" / "index.html").read_text(encoding="utf-8")


def test_every_command_and_public_name_has_its_place():
    names = re.findall(r"^::: [\w.]+\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(lightning_runs.__all__)
    assert [name for name in names if not hasattr(lightning_runs, name)] == []
    page = next(ROOT.glob("*/vendor/lightning-runs/src/lightning_runs/docs/commands.md")).read_text(encoding="utf-8")
    assert {*re.findall(r"^\| `(\w+)", page, re.MULTILINE)} == {*COMMANDS}
