"""README and CONTRIBUTING say what is there."""

from __future__ import annotations

import json
import re

import pytest
from tables import ROOT, refused
from test_bake import FILES, PACKAGE

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMPTS = {
    name: value
    for name, value in json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not name.startswith("_")
}


def test_the_table_of_refused_answers_is_the_hooks():
    begin, end = "<!-- refused: begin -->\n", "\n<!-- refused: end -->"

    assert README.split(begin)[1].split(end)[0] == refused()


def test_there_are_twelve_prompts():
    assert len(PROMPTS) == 12


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_table_of_prompts_names_every_choice_in_its_order(prompt):
    row = re.search(rf"^\| `{prompt}` \| (.*?) \|", README, re.MULTILINE)

    assert row
    if isinstance(PROMPTS[prompt], list):
        assert row.group(1).split(", ") == PROMPTS[prompt]


def test_the_tree_names_every_file_of_a_project():
    tree = README.split("```\nmy-lightning-project/\n")[1].split("```")[0]

    for file in FILES:
        name = file.rsplit("/", 1)[1] if "/" in file else file
        assert name.removesuffix(".yaml") in tree, file
    assert f"src/{PACKAGE}/" in tree


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")

    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:tests|hooks)/[\w./]+|cookiecutter\.json|\.ci/run)`", text):
        assert (ROOT / path).exists(), path


def test_no_document_names_a_figure_that_was_never_filled_in():
    assert "TODO" not in README
