"""The site is built without the internet, has every page once, and no link between its pages is dead."""

import re
import sys

import lightning_runs
import pytest
import yaml
from lightning_runs.commands import COMMANDS
from project import ROOT, shell


def pages_of(nav: list) -> list[str]:
    """Return the pages of a navigation, in their order."""
    values = [value for entry in nav for value in entry.values()]
    return [page for value in values for page in (pages_of(value) if isinstance(value, list) else [value])]


@pytest.mark.slow
def test_the_site_has_search_the_api_and_every_page():
    # without a network; a link to a page or heading that does not exist is a warning, which ends the strict build
    shell([sys.executable, "docs/site.py"], ROOT, {"https_proxy": "http://127.0.0.1:9"})
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = sorted(file.relative_to(ROOT / "build" / "pages").as_posix() for file in ROOT.glob("build/pages/**/*.md"))
    assert sorted(pages_of(nav)) == pages
    assert "ExactResume" in (ROOT / "build" / "site" / "search.json").read_text(encoding="utf-8")
    assert "every_n_steps" in (ROOT / "build" / "site" / "api" / "index.html").read_text(encoding="utf-8")


def test_every_command_and_public_name_has_its_place():
    names = re.findall(r"^::: [\w.]+\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(lightning_runs.__all__)
    assert [name for name in names if not hasattr(lightning_runs, name)] == []
    page = next(ROOT.glob("*/vendor/lightning-runs/src/lightning_runs/docs/commands.md")).read_text(encoding="utf-8")
    assert {*re.findall(r"^\| `(\w+)", page, re.MULTILINE)} == {*COMMANDS}
